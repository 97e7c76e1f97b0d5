//! The vote: which answers are grouped, what a sample weighs, and what was asked of the model.

use candor::internals::consensus::{
    Answer, AnswerMode, AskedQuestion, Comparer, Equivalence, Extractor, Level, Reader, Vote,
    VoteMode, undecided, unstated, vote,
};
use candor::internals::generation::{
    AnswerScore, AskedAnswer, Comparison, Completion, FinishReason, Generation, Token, TokenStats,
};
use proptest::prelude::*;

fn token(logprob: f64) -> Token {
    let stats = TokenStats { logprob, ..TokenStats::default() };
    Token { id: 1, stats, top_logprobs: Vec::new() }
}

fn sample(text: &str, finish_reason: FinishReason, logprob: f64) -> Completion {
    let tokens = vec![token(logprob)];
    Completion { tokens, text: text.to_owned(), finish_reason, ..Completion::default() }
}

/// A sample that replied to the cue.
fn asked(text: &str, finish_reason: FinishReason, reply: &str, complete: bool) -> Completion {
    let (cue, reply) = ("\nAnswer:".to_owned(), reply.to_owned());
    let asked = AskedAnswer { cue, text: reply, complete, tokens: vec![token(-0.5)] };
    Completion { asked: Some(asked), ..sample(text, finish_reason, -1.0) }
}

fn generation(completions: Vec<Completion>) -> Generation {
    let number = |(index, completion)| Completion { index, ..completion };
    let completions = completions.into_iter().enumerate().map(number).collect();
    Generation { completions, ..Generation::default() }
}

fn stopped(texts: &[&str]) -> Generation {
    generation(texts.iter().map(|text| sample(text, FinishReason::Stop, -1.0)).collect())
}

fn question(text: &str) -> AskedQuestion {
    AskedQuestion { text: text.to_owned(), options: Vec::new() }
}

/// The groups as (answer, samples).
fn groups(vote: &Vote) -> Vec<(&str, &[usize])> {
    vote.clusters.iter().map(|c| (c.answer.as_str(), c.samples.as_slice())).collect()
}

fn check_vote(asked: &str, texts: &[&str], expected: &[(&str, &[usize])]) -> Vote {
    let vote = vote(&question(asked), &stopped(texts), &Reader::default());
    assert_eq!(groups(&vote), expected, "{texts:?}");
    vote
}

#[test]
fn one_answer_in_many_words_is_one_group() {
    let vote = check_vote(
        "What is the capital of France?",
        &[
            "Paris",
            "The capital of France is Paris.",
            "Paris is the capital of France.",
            "paris",
            "It's Paris!",
            "Lyon",
            "The capital of France is not Paris.",
        ],
        &[
            ("Paris", &[0, 1, 2, 3, 4]),
            ("The capital of France is not Paris", &[6]),
            ("Lyon", &[5]),
        ],
    );
    assert_eq!((vote.share(), vote.margin(), vote.tied), (5.0 / 7.0, 4.0 / 7.0, false));
    assert!(vote.pairs.iter().all(|pair| pair.level == Level::Contains && pair.score == 1.0));
    check_vote(
        "How far is it?",
        &["5 miles", "5", "6 miles", "6 miles"],
        &[("6 miles", &[2, 3]), ("5", &[0, 1])],
    );
    check_vote(
        "Who wrote Hamlet?",
        &["Shakespeare", "William Shakespeare", "William Shakespeare", "Marlowe"],
        &[("William Shakespeare", &[0, 1, 2]), ("Marlowe", &[3])],
    );
}

#[test]
fn what_only_looks_alike_stays_apart() {
    let check = |asked: &str, texts: &[&str]| {
        let vote = vote(&question(asked), &stopped(texts), &Reader::default());
        assert_eq!(vote.clusters.len(), texts.len(), "{texts:?}: {:?}", groups(&vote));
    };
    check("Which is it?", &["Python 3.1", "Python 3.10"]);
    check("Which is it?", &["red", "not red"]);
    check("How far is it?", &["5 km", "5", "5 miles"]);
    check("Who wrote it?", &["Smith", "John Smith", "Adam Smith"]);
    check("Which is it?", &["red", "red and blue"]);
    check("Who is he?", &["William Pitt", "William Pitt, the Elder", "William Pitt, the Younger"]);
    check("Is it?", &["Yes, because it has fur.", "No, because it has fur."]);
    check("Which color does the sky have?", &["The dog is red.", "The cat is red."]);
}

#[test]
fn options_are_their_letters() {
    let options = ["Paris", "Lyon"].map(str::to_owned).to_vec();
    let asked = AskedQuestion { text: "Which is the capital of France?".into(), options };
    let vote = vote(&asked, &stopped(&["A", "Paris", "Lyon", "B", "Nice"]), &Reader::default());
    let samples: Vec<&[usize]> = vote.clusters.iter().map(|c| c.samples.as_slice()).collect();
    assert_eq!(samples, [&[0, 1][..], &[2, 3], &[4]]);
}

#[test]
fn samples_without_an_answer_never_vote_but_count() {
    let texts = [
        ("7", FinishReason::Stop),
        ("7", FinishReason::Length),
        ("7", FinishReason::Cancelled),
        ("7", FinishReason::NumericalError),
        ("", FinishReason::Stop),
    ];
    let samples = texts.map(|(text, reason)| sample(text, reason, -1.0)).to_vec();
    let vote = vote(&question("How many?"), &generation(samples), &Reader::default());
    let counts = (vote.unparsed, vote.truncated, vote.failed, vote.stopped, vote.samples());
    assert_eq!(counts, (1, 1, 1, 1, 4));
    assert_eq!(vote.answers, [Some("7".to_owned()), None, None, None, None]);
    assert_eq!((vote.share(), vote.tied), (0.25, false));
    let none = candor::internals::consensus::vote(&question(""), &stopped(&[]), &Reader::default());
    assert_eq!((none.samples(), none.share(), none.margin(), none.tied), (0, 0.0, 0.0, false));
}

#[test]
fn replies_count_where_the_text_states_no_answer() {
    use AnswerMode::{Asked, Auto, Stated};
    let rambling =
        "Let us multiply both numbers. Seventeen times twenty is a lot, and more follows";
    let check = |mode: AnswerMode, completion: Completion, expected: Option<&str>| {
        let reader = Reader { answers: mode, ..Reader::default() };
        let asked = completion.asked.clone();
        let vote = vote(&question("What is 17*23?"), &generation(vec![completion]), &reader);
        assert_eq!(vote.answers[0].as_deref(), expected, "{mode:?} {asked:?}");
        vote
    };
    let (stop, cut) = (FinishReason::Stop, FinishReason::Length);
    check(Auto, asked(rambling, stop, " 391", true), Some("391"));
    check(Auto, asked(rambling, cut, " 391", true), Some("391"));
    check(Stated, asked(rambling, cut, " 391", true), None);
    // What the text states counts, unless every sample is asked.
    check(Auto, asked("The answer is 401.", stop, " 391", true), Some("401"));
    check(Asked, asked("The answer is 401.", stop, " 391", true), Some("391"));
    // What a cut text states in a finished sentence counts too, a number in passing does not.
    check(Auto, sample("The answer is 401.\nTo see this, let us", cut, -1.0), Some("401"));
    check(Auto, sample("17 times 20 is 340. And 17 times", cut, -1.0), None);
    check(Stated, sample("The answer is 401.\nTo see this, let us", cut, -1.0), None);
    // A reply that was cut counts up to its last finished sentence.
    check(Auto, asked(rambling, cut, " 391. That is because", false), Some("391"));
    let vote = check(Auto, asked(rambling, cut, " It is because", false), None);
    assert_eq!((vote.truncated, vote.unparsed), (1, 0));
    // The first line of a poem is not its answer.
    let poem = "Raindrops fall,\nwhispers in the breeze";
    let vote = check(Auto, asked(poem, stop, " Raindrops fall,", true), Some(poem));
    assert_eq!(vote.clusters.len(), 1);
    let vote = check(Auto, asked(rambling, stop, " I don't know.", true), Some("I don't know"));
    assert!(vote.is_abstention());
}

#[test]
fn only_what_is_not_stated_is_asked() {
    let check = |mode: AnswerMode, completions: Vec<Completion>, expected: &[usize]| {
        let reader = Reader { answers: mode, ..Reader::default() };
        let texts: Vec<String> = completions.iter().map(|c| c.text.clone()).collect();
        let asked = question("Is a whale a fish?");
        let found = unstated(&asked, &generation(completions), &reader);
        assert_eq!(found, expected, "{mode:?} {texts:?}");
    };
    let stop = |text: &str| sample(text, FinishReason::Stop, -1.0);
    let cut = |text: &str| sample(text, FinishReason::Length, -1.0);
    let long = "Whales breathe air, feed their young with milk, and so they are mammals like us.";
    let mixed = || vec![stop("Yes"), stop(long), cut("Whales are"), stop("The answer is no.")];
    check(AnswerMode::Auto, mixed(), &[1, 2]);
    check(AnswerMode::Stated, mixed(), &[]);
    check(AnswerMode::Asked, mixed(), &[0, 1, 2, 3]);
    // A sentence is no short answer, nor is what says the question again.
    check(AnswerMode::Auto, vec![stop("17 * 23 equals 401.")], &[0]);
    check(AnswerMode::Auto, vec![stop("A whale and a fish are alike")], &[0]);
    check(AnswerMode::Auto, vec![asked(long, FinishReason::Stop, " No", true), stop("Yes")], &[]);
    check(AnswerMode::Auto, vec![sample("7", FinishReason::NumericalError, 0.0), cut("")], &[]);
}

#[test]
fn judged_pairs_merge_by_average_link() {
    let asked = question("Why is the sky blue?");
    let texts = ["rayleigh scattering", "light is scattered", "short waves bend", "oxygen"];
    let form = |text: &str| Answer::of(text).unwrap().canonical;
    let run = |judged: &[(usize, usize, f64)]| {
        let comparison = |(a, b, same): &(usize, usize, f64)| {
            let (a, b) = (form(texts[*a]), form(texts[*b]));
            let (a, b) = if a < b { (a, b) } else { (b, a) };
            Comparison { a, b, same: *same, parts: vec![*same] }
        };
        let comparisons = judged.iter().map(comparison).collect();
        let generation = Generation { comparisons, ..stopped(&texts) };
        let reader = Reader { equivalence: Equivalence::SelfJudged, ..Reader::default() };
        let open = undecided(&asked, &generation, &reader).len();
        (vote(&asked, &generation, &reader), open)
    };
    let (apart, open) = run(&[]);
    assert_eq!((apart.clusters.len(), open), (4, 6));
    let (merged, open) = run(&[(0, 1, 0.9), (0, 2, 0.8), (1, 2, 0.3), (0, 3, 0.1)]);
    // 0 and 1 join first; 2 joins both at a mean of 0.55.
    let mut samples: Vec<&[usize]> = merged.clusters.iter().map(|c| &c.samples[..]).collect();
    samples.sort_unstable();
    assert_eq!((samples, open), (vec![&[0, 1, 2][..], &[3]], 2));
    assert_eq!(merged.pairs.iter().filter(|p| p.level == Level::Judged).count(), 4);
    // A mean of 0.4 does not join.
    let (less, _) = run(&[(0, 1, 0.9), (0, 2, 0.8), (1, 2, 0.0)]);
    assert_eq!(less.clusters.len(), 3);
}

#[test]
fn no_judge_merges_what_a_rule_keeps_apart() {
    let check = |a: &str, b: &str| {
        let form = |text: &str| Answer::of(text).unwrap().canonical;
        let (first, second) = if form(a) < form(b) { (a, b) } else { (b, a) };
        let (a, b) = (form(first), form(second));
        let judged = Comparison { a, b, same: 1.0, parts: vec![1.0] };
        let generation = Generation { comparisons: vec![judged], ..stopped(&[first, second]) };
        let asked = question("Which is it?");
        let reader = Reader { equivalence: Equivalence::SelfJudged, ..Reader::default() };
        assert!(undecided(&asked, &generation, &reader).is_empty());
        let vote = vote(&asked, &generation, &reader);
        assert_eq!(vote.clusters.len(), 2, "{first} and {second}");
    };
    check("391", "401");
    check("yes", "no");
    check("red", "not red");
    check("x-2", "x/2");
    check("A", "B");
    check("5 km", "5 miles");
}

#[test]
fn weights_are_one_the_probability_or_shared() {
    let asked = question("How many?");
    let mut samples = vec![
        sample("4", FinishReason::Stop, 0.5_f64.ln()),
        sample("4", FinishReason::Stop, 0.5_f64.ln()),
        sample("5", FinishReason::Stop, 0.25_f64.ln()),
        sample("", FinishReason::Stop, -1.0),
    ];
    let scores = |four: f64, five: f64| {
        let score =
            |(answer, p): (&str, f64)| AnswerScore { answer: answer.into(), logprob: p.ln() };
        [("4", four), ("5", five)].map(score).to_vec()
    };
    samples[0].answer_scores = scores(0.6, 0.2);
    samples[1].answer_scores = scores(0.1, 0.1);
    samples[2].answer_scores = scores(0.0, 0.3);
    let check = |mode: VoteMode, expected: [f64; 2]| {
        let reader = Reader { vote: mode, ..Reader::default() };
        let vote = vote(&asked, &generation(samples.clone()), &reader);
        let weight = |answer: &str| {
            vote.clusters.iter().find(|c| c.answer == answer).map_or(0.0, |c| c.weight)
        };
        for (answer, expected) in ["4", "5"].iter().zip(expected) {
            assert!((weight(answer) - expected).abs() < 1e-12, "{mode:?} {answer}");
        }
    };
    check(VoteMode::Count, [2.0, 1.0]);
    // 0.5, 0.5 and 0.25, scaled to sum to three.
    check(VoteMode::Weighted, [2.4, 0.6]);
    check(VoteMode::Soft, [0.75 + 0.5, 0.25 + 0.5 + 1.0]);
}

#[test]
fn ties_go_to_the_likelier_then_to_the_smaller_answer() {
    let reader = Reader { extractor: Extractor::LastLine, ..Reader::default() };
    let of = |a: f64, b: f64| {
        let samples = [("blue", b), ("amber", a)];
        let samples = samples.map(|(text, p)| sample(text, FinishReason::Stop, p)).to_vec();
        let vote = vote(&question("Which?"), &generation(samples), &reader);
        assert!(vote.tied);
        vote.leader().unwrap().answer.clone()
    };
    assert_eq!(
        [of(-1.0, -2.0), of(-2.0, -1.0), of(-1.0, -1.0), of(f64::NAN, -1.0)],
        ["amber", "blue", "amber", "blue"]
    );
}

#[test]
fn a_vote_survives_json() {
    let before = vote(
        &question("What is the capital of France?"),
        &stopped(&["Paris", "Rome", "Paris is the capital of France."]),
        &Reader::default(),
    );
    let json = serde_json::to_string(&before).unwrap();
    assert_eq!(serde_json::from_str::<Vote>(&json).unwrap(), before);
}

const TEXTS: [&str; 12] = [
    "Paris",
    "Paris is the capital of France.",
    "The capital is Rome.",
    "rome",
    "5 miles",
    "5",
    "",
    "Oslo",
    "It is not Oslo.",
    "5 km",
    "Yes, it is.",
    "I don't know.",
];

proptest! {
    #[test]
    fn the_order_of_samples_does_not_matter(
        samples in prop::collection::vec((0_usize..12, 0_usize..4, -3.0_f64..0.0), 0..12),
        seed in any::<u64>(),
    ) {
        const REASONS: [FinishReason; 4] = [
            FinishReason::Stop, FinishReason::Stop, FinishReason::Length, FinishReason::Cancelled,
        ];
        let asked = question("What is the capital of France?");
        let made: Vec<Completion> = samples
            .iter()
            .map(|(text, reason, logprob)| sample(TEXTS[*text], REASONS[*reason], *logprob))
            .collect();
        let mut order: Vec<usize> = (0..made.len()).collect();
        order.sort_by_key(|i| {
            (seed ^ (*i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
                .wrapping_mul(0xBF58_476D_1CE4_E5B9)
        });
        for mode in [VoteMode::Count, VoteMode::Weighted] {
            let reader = Reader { vote: mode, ..Reader::default() };
            let straight = vote(&asked, &generation(made.clone()), &reader);
            let permuted = order.iter().map(|i| made[*i].clone()).collect();
            let mut shuffled = vote(&asked, &generation(permuted), &reader);
            for cluster in &mut shuffled.clusters {
                for sample in &mut cluster.samples {
                    *sample = order[*sample];
                }
                cluster.samples.sort_unstable();
            }
            let mut answers = vec![None; made.len()];
            for (position, answer) in shuffled.answers.drain(..).enumerate() {
                answers[order[position]] = answer;
            }
            shuffled.answers = answers;
            prop_assert_eq!(straight, shuffled);
        }
    }

    #[test]
    fn comparing_is_symmetric(a in "[A-Za-z0-9 .,-]{1,24}", b in "[A-Za-z0-9 .,-]{1,24}") {
        let comparer = Comparer::new(&question("What is the capital of France?"));
        if let (Some(a), Some(b)) = (Answer::of(&a), Answer::of(&b)) {
            prop_assert_eq!(comparer.compare(&a, &b), comparer.compare(&b, &a));
            prop_assert_eq!(comparer.compare(&a, &a), Some((Level::Form, true)));
        }
    }
}
