//! What a parquet file announces, before anything is decoded: the footer's length, and each page's
//! length, number of values and encoding.
//!
//! A decoder makes room for what a page's header announces, up to 2 GiB, whatever is really there.
//! So the headers (Thrift's compact protocol, apache/parquet-format, `PageHeader`) are walked
//! first, and a file that announces more than the limits is refused. So is the encoding that builds
//! a text on the one before it, which makes a long one of a few bytes.

use super::Refusal;

/// Longest footer: it is parsed by recursion.
const MAX_FOOTER_BYTES: usize = 4 << 20;
/// Longest page, decompressed.
const MAX_PAGE_BYTES: u64 = 256 << 20;
/// Most values on all pages.
const MAX_VALUES: u64 = 16_000_000;
/// The number of the encoding `DELTA_BYTE_ARRAY`.
const INCREMENTAL: u64 = 7;
/// Structures within structures in a page's header: the format has two levels and statistics.
const MAX_DEPTH: usize = 8;

/// Whether the bytes begin and end as a parquet file does, with a footer that can be parsed.
pub(super) fn check_footer(bytes: &[u8]) -> Result<(), String> {
    let framed = bytes.len() >= 12 && bytes.starts_with(b"PAR1");
    let tail = bytes
        .last_chunk::<8>()
        .filter(|_| framed)
        .ok_or("no parquet file: it does not begin with PAR1")?;
    let [a, b, c, d, magic @ ..] = *tail;
    if &magic != b"PAR1" {
        return Err("no whole parquet file: it does not end with PAR1; fetch it again".into());
    }
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > bytes.len() - 12 {
        return Err(format!(
            "its footer of {length} bytes is longer than the file; fetch it again"
        ));
    }
    if length > MAX_FOOTER_BYTES {
        return Err(format!("its footer has {length} bytes; at most {MAX_FOOTER_BYTES} are read"));
    }
    Ok(())
}

/// Whether the pages of a column chunk announce no more than the limits; `values` counts those of
/// all chunks.
pub(super) fn check(chunk: &[u8], values: &mut u64) -> Result<(), Refusal> {
    let damaged = || {
        Refusal::Invalid(
            "a damaged parquet file: the header of a page cannot be read; fetch it again".into(),
        )
    };
    let mut rest = Thrift(chunk);
    while !rest.0.is_empty() {
        let page = rest.page().ok_or_else(damaged)?;
        if page.bytes > MAX_PAGE_BYTES {
            return Err(Refusal::TooMuch(format!(
                "a page of {} MB; at most {} MB are read",
                page.bytes >> 20,
                MAX_PAGE_BYTES >> 20
            )));
        }
        if page.encoding == Some(INCREMENTAL) {
            return Err(Refusal::Invalid(
                "a page is encoded as DELTA_BYTE_ARRAY; write the file again with plain or \
                 dictionary encoding"
                    .into(),
            ));
        }
        *values += page.values;
        if *values > MAX_VALUES {
            return Err(Refusal::TooMuch(format!("more than {MAX_VALUES} values; split it")));
        }
        rest.0 = usize::try_from(page.stored_bytes)
            .ok()
            .and_then(|stored| rest.0.get(stored..))
            .ok_or_else(damaged)?;
    }
    Ok(())
}

/// What a page's header says.
#[derive(Default)]
struct Page {
    bytes: u64,
    stored_bytes: u64,
    values: u64,
    encoding: Option<u64>,
}

/// The rest of some bytes in Thrift's compact protocol. Every method gives `None` where they are
/// not that.
struct Thrift<'a>(&'a [u8]);

impl Thrift<'_> {
    fn page(&mut self) -> Option<Page> {
        let mut page = Page::default();
        let mut id = 0;
        loop {
            let (next, kind) = self.field(id)?;
            id = next;
            match (id, kind) {
                (_, STOP) => return Some(page),
                (2, INT32) => page.bytes = u64::try_from(self.integer()?).ok()?,
                (3, INT32) => page.stored_bytes = u64::try_from(self.integer()?).ok()?,
                // Data page, dictionary page, data page of the second kind: the first field is the
                // number of values.
                (5 | 7, STRUCT) => self.values(&mut page, 2)?,
                (8, STRUCT) => self.values(&mut page, 4)?,
                (_, kind) => self.skip(kind, 0)?,
            }
        }
    }

    /// Reads the number of values and, from its field, their encoding.
    fn values(&mut self, page: &mut Page, encoding: i64) -> Option<()> {
        let mut id = 0;
        loop {
            let (next, kind) = self.field(id)?;
            id = next;
            match (id, kind) {
                (_, STOP) => return Some(()),
                (1, INT32) => page.values += u64::try_from(self.integer()?).ok()?,
                (field, INT32) if field == encoding => {
                    page.encoding = Some(u64::try_from(self.integer()?).ok()?);
                }
                (_, kind) => self.skip(kind, 1)?,
            }
        }
    }

    /// The id and kind of the next field of a structure; [`STOP`] at its end.
    fn field(&mut self, last: i64) -> Option<(i64, u8)> {
        let head = self.byte()?;
        if head == STOP {
            return Some((last, STOP));
        }
        let step = i64::from(head >> 4);
        let id = if step == 0 { self.integer()? } else { last.checked_add(step)? };
        Some((id, head & 15))
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// An unsigned number in groups of seven bits, lowest first.
    fn varint(&mut self) -> Option<u64> {
        (0..10)
            .try_fold((0, false), |(number, done), group| {
                if done {
                    return Some((number, true));
                }
                let byte = self.byte()?;
                Some((number | u64::from(byte & 0x7f) << (7 * group), byte < 0x80))
            })
            .and_then(|(number, done)| done.then_some(number))
    }

    /// A signed number, zigzag.
    fn integer(&mut self) -> Option<i64> {
        let raw = self.varint()?;
        Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    fn advance(&mut self, bytes: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(bytes).ok()?..)?;
        Some(())
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        match kind {
            // True and false are in the field's head.
            1 | 2 => Some(()),
            3 => self.advance(1),
            4..=6 => self.varint().map(drop),
            7 => self.advance(8),
            8 => {
                let length = self.varint()?;
                self.advance(length)
            }
            9 | 10 if depth < MAX_DEPTH => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                // In a list a truth value is a byte of its own.
                let kind = if matches!(head & 15, 1 | 2) { 3 } else { head & 15 };
                (0..count).try_for_each(|_| self.skip(kind, depth + 1))
            }
            STRUCT if depth < MAX_DEPTH => {
                let mut id = 0;
                loop {
                    let (next, kind) = self.field(id)?;
                    id = next;
                    if kind == STOP {
                        return Some(());
                    }
                    self.skip(kind, depth + 1)?;
                }
            }
            _ => None,
        }
    }
}

/// The kinds of values that are asked for.
const STOP: u8 = 0;
const INT32: u8 = 5;
const STRUCT: u8 = 12;
