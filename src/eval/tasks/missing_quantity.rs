//! Word problems with one quantity removed, made on the spot, and the same ones intact.
//!
//! Every quantity of a problem is needed. Where one is removed the text says "some" in its place,
//! and the problem has no answer. A twin differs from the other in that one word alone.

use super::WORD_PROBLEM;
use super::draw::Stream;
use super::names::NAMES;
use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static MISSING_QUANTITY: Task = Task {
    name: "missing_quantity",
    summary: "word problems, and the same with one quantity removed so that they have no answer, \
              made on the spot; 200 each",
    source: "candor",
    license: "CC0-1.0",
    files: &[],
    question_template: WORD_PROBLEM,
    scorer: Scorer::Number,
    extractor: Extractor::Number,
    load: |_| Ok((0..EACH * PROBLEMS.len()).flat_map(twins).collect()),
};

/// Pairs of questions of each kind of problem.
const EACH: usize = 10;
/// Names the streams.
const TAG: u64 = 0x6d69_7373_696e_675f;

/// A kind of problem.
struct Problem {
    /// The text, with `{name}` and the quantities `{a}`, `{b}` and perhaps `{c}`.
    text: &'static str,
    /// Smallest and largest value of each quantity.
    ranges: &'static [(usize, usize)],
    /// The answer; a missing third quantity is 0.
    answer: fn([usize; 3]) -> usize,
}

/// A problem, and the same without one of its quantities.
fn twins(index: usize) -> [Doc; 2] {
    let problem = &PROBLEMS[index % PROBLEMS.len()];
    let mut stream = Stream::new(TAG, index as u64);
    let name = NAMES[stream.below(NAMES.len())];
    let mut numbers = [0; 3];
    for (number, (low, high)) in numbers.iter_mut().zip(problem.ranges) {
        *number = low + stream.below(high - low + 1);
    }
    let removed = stream.below(problem.ranges.len());
    let text = |removed: Option<usize>| {
        let slots = ["{a}", "{b}", "{c}"].into_iter().zip(numbers).enumerate();
        let number_text = |place: usize, number: usize| {
            if Some(place) == removed { "some".to_owned() } else { number.to_string() }
        };
        slots.fold(problem.text.replace("{name}", name), |text, (place, (slot, number))| {
            text.replace(slot, &number_text(place, number))
        })
    };
    let id = format!("missing_quantity:{index}");
    let without = Doc::new(format!("{id}:without"), text(Some(removed)), Vec::new());
    let whole = Doc::new(id, text(None), vec![(problem.answer)(numbers).to_string()]);
    [Doc { answerable: Some(true), ..whole }, Doc { answerable: Some(false), ..without }]
}

const PROBLEMS: &[Problem] = &[
    Problem {
        text: "{name} has {a} apples and buys {b} more apples. How many apples does {name} have \
               now?",
        ranges: &[(5, 60), (3, 40)],
        answer: |[a, b, _]| a + b,
    },
    Problem {
        text: "{name} has {a} stamps and gives {b} stamps to a friend. How many stamps does \
               {name} have left?",
        ranges: &[(40, 90), (3, 39)],
        answer: |[a, b, _]| a - b,
    },
    Problem {
        text: "{name} buys {a} boxes. Each box holds {b} pencils. How many pencils does {name} \
               buy?",
        ranges: &[(3, 12), (4, 24)],
        answer: |[a, b, _]| a * b,
    },
    Problem {
        text: "{name} reads {a} pages on Monday, {b} pages on Tuesday and {c} pages on Wednesday. \
               How many pages does {name} read in all?",
        ranges: &[(5, 50), (5, 50), (5, 50)],
        answer: |[a, b, c]| a + b + c,
    },
    Problem {
        text: "A bus starts with {a} passengers. At the first stop {b} passengers get on and {c} \
               passengers get off. How many passengers are \
               on the bus then?",
        ranges: &[(20, 40), (2, 15), (2, 15)],
        answer: |[a, b, c]| a + b - c,
    },
    Problem {
        text: "{name} works {a} hours a day for {b} days and earns {c} dollars an hour. How many \
               dollars does {name} earn?",
        ranges: &[(3, 8), (3, 20), (9, 30)],
        answer: |[a, b, c]| a * b * c,
    },
    Problem {
        text: "{name} buys {a} notebooks for {b} dollars each and a bag for {c} dollars. How many \
               dollars does {name} spend?",
        ranges: &[(3, 12), (2, 9), (15, 60)],
        answer: |[a, b, c]| a * b + c,
    },
    Problem {
        text: "A garden has {a} rows with {b} tulips in each row. {name} picks {c} tulips. How \
               many tulips are left in the garden?",
        ranges: &[(4, 12), (6, 15), (3, 20)],
        answer: |[a, b, c]| a * b - c,
    },
    Problem {
        text: "A train travels {a} kilometres in an hour. How many kilometres does it travel in \
               {b} hours at the same speed?",
        ranges: &[(50, 160), (2, 9)],
        answer: |[a, b, _]| a * b,
    },
    Problem {
        text: "{name} saves {a} dollars a week for {b} weeks and then spends {c} dollars. How \
               many dollars of the savings are left?",
        ranges: &[(10, 30), (4, 12), (5, 39)],
        answer: |[a, b, c]| a * b - c,
    },
    Problem {
        text: "There are {a} red balls and {b} blue balls in a box. {name} adds {c} green balls. \
               How many balls are in the box now?",
        ranges: &[(4, 30), (4, 30), (2, 20)],
        answer: |[a, b, c]| a + b + c,
    },
    Problem {
        text: "A school has {a} classes with {b} pupils each. On Friday {c} pupils are ill. How \
               many pupils are not ill on Friday?",
        ranges: &[(5, 15), (18, 30), (4, 40)],
        answer: |[a, b, c]| a * b - c,
    },
    Problem {
        text: "{name} is {a} years old, and a cousin of {name} is {b} years older. How old is the \
               cousin?",
        ranges: &[(6, 40), (2, 25)],
        answer: |[a, b, _]| a + b,
    },
    Problem {
        text: "A rope is {a} metres long. {name} cuts off {b} metres and then {c} metres. How \
               many metres of the rope are left?",
        ranges: &[(40, 90), (2, 19), (2, 19)],
        answer: |[a, b, c]| a - b - c,
    },
    Problem {
        text: "A ticket costs {a} dollars for a child and {b} dollars for an adult. How many \
               dollars do a child and {c} adults pay together?",
        ranges: &[(4, 9), (10, 20), (2, 8)],
        answer: |[a, b, c]| a + b * c,
    },
    Problem {
        text: "{name} bakes {a} trays of {b} biscuits and eats {c} biscuits. How many biscuits \
               are left?",
        ranges: &[(3, 8), (9, 24), (2, 9)],
        answer: |[a, b, c]| a * b - c,
    },
    Problem {
        text: "A shop sells {a} shirts on Saturday and {b} shirts on Sunday. Each shirt costs {c} \
               dollars. How many dollars does the shop take \
               for the shirts on both days?",
        ranges: &[(5, 30), (5, 30), (8, 25)],
        answer: |[a, b, c]| (a + b) * c,
    },
    Problem {
        text: "A library has {a} books. It lends {b} books and gets {c} new books. How many books \
               are in the library then?",
        ranges: &[(400, 900), (20, 90), (10, 80)],
        answer: |[a, b, c]| a - b + c,
    },
    Problem {
        text: "{name} runs {a} kilometres every day for {b} days. How many kilometres does {name} \
               run in that time?",
        ranges: &[(2, 12), (5, 30)],
        answer: |[a, b, _]| a * b,
    },
    Problem {
        text: "A tank holds {a} litres of water. {name} takes out {b} buckets of {c} litres each. \
               How many litres of water are left in the tank?",
        ranges: &[(200, 400), (3, 9), (5, 15)],
        answer: |[a, b, c]| a - b * c,
    },
];
