#!/usr/bin/env python3
"""Draws a command and its colored terminal output (ANSI SGR, 256 colors) as a small SVG.

    terminal_svg.py "candor ask ... --explain" > explain.svg       # runs the command
    terminal_svg.py "candor ask ... --explain" --stdin < OUTPUT > explain.svg

The command runs in a shell with `--color always` appended; stdout and stderr appear in the order of
writing. Lines wider than WIDTH columns wrap as in a terminal.
"""
import re
import subprocess
import sys
import unicodedata
from xml.sax.saxutils import escape

WIDTH, CELL, LINE, FONT, PAD = 100, 7.8, 18, 13, 16
FOREGROUND, BACKGROUND = "#d4d4d4", "#1e1e1e"
BASIC = ["#000000", "#cd3131", "#0dbc79", "#e5e510", "#2472c8", "#bc3fbc", "#11a8cd", "#e5e5e5"]


def color_256(n):
    """The xterm palette: 16 basic colors, a cube of 6 x 6 x 6, 24 grays."""
    if n < 16:
        return BASIC[n % 8]
    if n < 232:
        levels = [0 if v == 0 else 55 + 40 * v for v in ((n - 16) // 36, (n - 16) // 6 % 6, (n - 16) % 6)]
        return "#%02x%02x%02x" % tuple(levels)
    return "#%02x%02x%02x" % ((8 + 10 * (n - 232),) * 3)


def style_after(codes, style):
    """The (color, bold, dim) after one SGR sequence."""
    codes = [int(code or 0) for code in codes.split(";")]
    color, bold, dim = style
    while codes:
        code = codes.pop(0)
        if code == 0:
            color, bold, dim = FOREGROUND, False, False
        elif code in (1, 2):
            bold, dim = bold or code == 1, dim or code == 2
        elif code == 22:
            bold, dim = False, False
        elif code == 38 and codes[:1] == [5]:
            color, codes = color_256(codes[1]), codes[2:]
        elif code == 39:
            color = FOREGROUND
        elif 30 <= code <= 37:
            color = BASIC[code - 30]
    return color, bold, dim


def lines_of(text):
    """Lines of (text, style) runs, wrapped at WIDTH."""
    style, lines, column = (FOREGROUND, False, False), [[]], 0
    for part in re.split(r"(\x1b\[[0-9;]*m|\n)", text):
        if part == "\n":
            lines.append([])
            column = 0
        elif part.startswith("\x1b["):
            style = style_after(part[2:-1], style)
        else:
            for character in part:
                wide = 0 if unicodedata.combining(character) else 1
                if column + wide > WIDTH:
                    lines.append([])
                    column = 0
                column += wide
                if lines[-1] and lines[-1][-1][1] == style:
                    lines[-1][-1][0] += character
                else:
                    lines[-1].append([character, style])
    return lines


def tspan(text, style):
    color, bold, dim = style
    attributes = f' fill="{color}"' if color != FOREGROUND else ""
    attributes += ' font-weight="bold"' if bold else ""
    attributes += ' opacity=".7"' if dim else ""
    return f"<tspan{attributes}>{escape(text)}</tspan>" if attributes else escape(text)


def svg(command, output):
    lines = lines_of(f"\x1b[32m$ \x1b[0;1m{command}\x1b[0m\n{output.rstrip()}")
    width, height = round(2 * PAD + WIDTH * CELL), 2 * PAD + LINE * len(lines)
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
           f'font-family="ui-monospace,Menlo,Consolas,\'DejaVu Sans Mono\',monospace" font-size="{FONT}" fill="{FOREGROUND}">')
    yield f"<title>{escape(command)}</title>"
    yield f'<rect width="{width}" height="{height}" rx="8" fill="{BACKGROUND}"/>'
    for number, line in enumerate(lines):
        text = "".join(tspan(*run) for run in line)
        if not text.strip():
            continue
        columns = sum(not unicodedata.combining(c) for run, _ in line for c in run)
        yield (f'<text x="{PAD}" y="{PAD + LINE * number + FONT}" textLength="{columns * CELL:.1f}" '
               f'xml:space="preserve">{text}</text>')
    yield "</svg>"


def main():
    command = sys.argv[1]
    if "--stdin" in sys.argv[2:]:
        output = sys.stdin.read()
    else:
        done = subprocess.run(command + " --color always 2>&1", shell=True, stdout=subprocess.PIPE, text=True)
        output = done.stdout
    print("\n".join(svg(command, output)))


if __name__ == "__main__":
    main()
