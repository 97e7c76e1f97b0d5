//! What the rules must keep apart, put together, refuse and find: tables of texts by kind.

use candor::internals::consensus::{Answer, Extractor, Reading, canonical};
use proptest::prelude::*;

use Extractor::{Auto, Boxed, Choice, LastLine, Number, ShortAnswer};

/// The canonical form of the answer, if there is one and it is no abstention.
fn form(extractor: Extractor, text: &str) -> Option<String> {
    match extractor.read(text) {
        Reading::Stated(answer) | Reading::Unstated(answer) => Some(answer.canonical),
        Reading::Abstained | Reading::Empty => None,
    }
}

/// Texts of one question whose answers differ pairwise.
fn apart(extractor: Extractor, cases: &[&[&str]]) {
    for texts in cases {
        let forms: Vec<_> = texts.iter().map(|text| form(extractor, text)).collect();
        for (i, a) in forms.iter().enumerate() {
            for b in &forms[i + 1..] {
                assert!(a.is_none() || a != b, "{extractor}: {texts:?} gave {forms:?}");
            }
        }
    }
}

/// Texts of one question that give one answer.
fn together(extractor: Extractor, cases: &[&[&str]]) {
    for texts in cases {
        let forms: Vec<_> = texts.iter().map(|text| form(extractor, text)).collect();
        let same = forms.iter().all(|form| form.is_some() && *form == forms[0]);
        assert!(same, "{extractor}: {texts:?} gave {forms:?}");
    }
}

/// Texts and the canonical form of what they state; `None` for no answer.
fn stated(extractor: Extractor, cases: &[(&str, Option<&str>)]) {
    for (text, expected) in cases {
        let found = match extractor.read(text) {
            Reading::Stated(answer) => Some(answer.canonical),
            _ => None,
        };
        assert_eq!(found.as_deref(), *expected, "{extractor} of {text:?}");
    }
}

/// Texts that a rule does not read: the whole text stands for them.
fn unstated(extractor: Extractor, texts: &[&str]) {
    for text in texts {
        let Reading::Unstated(answer) = extractor.read(text) else {
            panic!("{extractor} of {text:?}: {:?}", extractor.read(text))
        };
        assert_eq!(Some(answer.canonical), canonical(text), "{text:?}");
    }
}

/// Whether a gold answer is right for a text.
fn gold(extractor: Extractor, cases: &[(&str, &str, bool)]) {
    for (gold, text, expected) in cases {
        let found = form(extractor, text);
        let right = found.is_some_and(|found| extractor.gold_forms(gold).contains(&found));
        assert_eq!(right, *expected, "{extractor}: gold {gold:?}, text {text:?}");
    }
}

#[test]
fn a_part_of_a_text_is_never_its_answer() {
    apart(
        Auto,
        &[
            &["1. Paris\n2. Lyon", "1. Lyon\n2. Nice", "1. Paris"],
            &["i. first law", "i. second law"],
            &["Jan. 5, 1990", "Jan. 24, 1990"],
            &["Oct. 12", "Oct. 3"],
            &["Sec. 3", "Sec. 9"],
            &["Fig. 2", "Fig. 3", "Vol. 2", "No. 2"],
            &["Acme Inc. of Ohio", "Acme Inc. of Utah"],
            &["Smith et al. 2019", "Smith et al. 2021"],
            &["9 a.m. Monday", "9 a.m. Friday", "9 p.m. Friday"],
            &["Dr. Smith", "Dr. Jones", "Prof. A. Smith"],
            &["U.S. Army", "U.S. Navy"],
            &["```python\nprint(1)\n```", "```python\nprint(2)\n```"],
            &["import os\nprint(os.name)", "import os\nos.remove('x')"],
            &["Raindrops fall,\nsoftly", "Raindrops fall,\nloudly"],
            &["Dear Sir,\nI am Tom.", "Dear Sir,\nI am Bob."],
            &["## Capital\nParis", "## Capital\nLyon"],
            &["Hello! My name is Tom.", "Hello! How can I help you?"],
            &["Step 1: add 2. Step 2: stop.", "Step 1: add 3. Step 2: stop."],
            &["1. Weltkrieg", "2. Weltkrieg"],
            &["12. Mai", "13. Mai"],
            &["- Paris\n- Lyon", "- Lyon\n- Paris"],
        ],
    );
    stated(
        Auto,
        &[
            ("1. Paris", Some("paris")),
            ("10. Rome", Some("rome")),
            ("1) Paris", Some("paris")),
            ("Answer: 1. Paris", Some("paris")),
            ("Let me think. It is Paris.", Some("paris")),
            ("Let's think step by step. The capital is Paris.", Some("paris")),
            ("That's a great question! Paris.", Some("paris")),
            ("Sure, here is the capital:\n\nParis", Some("paris")),
            ("Of course! Here you go:\n\nRome", Some("rome")),
            ("Here is the answer: Rome", Some("rome")),
            ("Well, Paris.", Some("paris")),
            ("**Final Answer**\nParis", Some("paris")),
            ("### Answer\nParis", Some("paris")),
            ("Paris. It lies on the Seine.", Some("paris")),
            ("Paris\n\nParis is the capital of France.", Some("paris")),
            ("The answer to the question is Paris.", Some("paris")),
            ("I believe the answer is Paris.", Some("paris")),
            ("The answer is Paris, because it is.", Some("paris")),
        ],
    );
    together(Auto, &[&["1. cat\n2. dog", "- cat\n- dog", "Here are two:\n1. cat\n2. dog"]]);
    unstated(
        Auto,
        &[
            "Paris is the capital of France.",
            "The color of the sky is blue.",
            "The capital of France is not Paris.",
            "The capital is Paris. But some say it is Lyon.",
            "The sky scatters blue light more than red light, so we see blue.",
            "I think it is Paris.",
        ],
    );
}

#[test]
fn operators_and_brackets_carry_meaning() {
    apart(
        ShortAnswer,
        &[
            &["x-2", "x/2", "x*2", "x+2", "x^2", "x2"],
            &["3x - 2", "3x / 2"],
            &["a-b", "a/b", "a:b", "a;b", "a,b", "b"],
            &["(a+b)/c", "a+b/c"],
            &["[0, 1]", "(0, 1)", "[0, 1)", "{0, 1}", "0, 1"],
            &["1/x", "1-x"],
            &["n!", "n"],
            &["os.path", "ospath", "os path"],
            &["y = 3x - 2", "y = 3x / 2"],
            &["(x-2)(x+2)", "x-2(x+2)"],
            &["arr[i]", "arr(i)", "arr i"],
            &["foo_bar", "foobar", "foo.bar"],
            &["C:\\temp", "/temp", "temp"],
            &["i++", "i--", "++i", "i"],
            &["p → q", "p -> q", "p ∧ q", "p ∨ q"],
            &["x < 5", "x > 5", "x <= 5", "5"],
            &["|x|", "x", "~x", "@x", "#x", "x'"],
            &["C", "C++", "C#", "C+"],
            &["f(x)", "f x", "f(x)'", "f(x, y)"],
            &["Python 3.10", "Python 3.1", "Python 310"],
        ],
    );
    together(
        Auto,
        &[
            &["a + b", "a+b"],
            &["x^2 + 1", "x^2+1", "x² + 1", "$x^2+1$", "\\(x^{2}+1\\)"],
            &["f(x, y)", "f(x,y)"],
            &["[0, 1]", "[0,1]", "[ 0, 1 ]"],
            &["C++", "c++"],
        ],
    );
    apart(
        Boxed,
        &[
            &["\\boxed{(a, b)}", "\\boxed{[a, b)}", "\\boxed{b}"],
            &["\\boxed{\\dfrac{x+1}{2}}", "\\boxed{x+1/2}"],
            &["\\boxed{2^{n+1}}", "\\boxed{2^n+1}"],
            &[
                "\\boxed{\\begin{pmatrix}1\\\\2\\end{pmatrix}}",
                "\\boxed{\\begin{pmatrix}12\\end{pmatrix}}",
            ],
        ],
    );
    gold(
        Auto,
        &[("n(n+1)*2", "The answer is n(n+1)/2.", false), ("-π", "The answer is π.", false)],
    );
}

#[test]
fn a_minus_stays() {
    stated(
        Number,
        &[
            ("The answer is - 5.", Some("-5")),
            ("x = - 5", Some("-5")),
            ("y = -  5", Some("-5")),
            ("\\boxed{- 5}", Some("-5")),
            ("The change is - $5.", Some("-5")),
            ("- €5", Some("-5")),
            ("-€ 5", Some("-5")),
            ("\\boxed{- \\frac{1}{2}}", Some("-1/2")),
            ("It dropped by - 5.", Some("-5")),
            ("(-5)", Some("-5")),
            ("minus five", Some("-5")),
            ("10 - 5", Some("5")),
            ("- 5 apples\n- 6 pears", Some("6")),
        ],
    );
    apart(
        ShortAnswer,
        &[
            &["- 5", "5", "+5"],
            &["- 5 °C", "5 °C"],
            &["-x", "x", "x-"],
            &["-√2", "√2"],
            &["−i", "i"],
            &["\\(-\\sqrt{3}\\)", "\\(\\sqrt{3}\\)"],
            &["A-", "A", "A+"],
            &["O-", "O", "O+"],
            &["Cl-", "Cl"],
            &["- $5", "$5"],
            &["-(x+1)", "(x+1)"],
        ],
    );
    together(ShortAnswer, &[&["- 5", "-5", "−5"], &["- y", "-y"], &["-√2", "-\\sqrt{2}", "−√2"]]);
}

#[test]
fn points_and_lists_are_no_numbers() {
    together(
        Boxed,
        &[&["\\boxed{(2,3)}", "\\boxed{(2, 3)}"], &["\\boxed{3,4,5}", "\\boxed{3, 4, 5}"]],
    );
    apart(
        ShortAnswer,
        &[
            &["1,2,3", "9,9,3", "3"],
            &["(2,3)", "2.3", "[2,3]", "{2,3}", "2, 3"],
            &["(12,345)", "12345"],
            &["1;2;3", "3"],
        ],
    );
    gold(
        Boxed,
        &[
            ("2.3", "\\boxed{(2,3)}", false),
            ("3", "\\boxed{1,2,3}", false),
            ("12345", "\\boxed{(12,345)}", false),
            ("12345", "\\boxed{12,345}", true),
        ],
    );
    stated(
        Number,
        &[("The answer is 1, 2, 3.", None), ("The answer is (2,3).", None), ("4, 5, 6", None)],
    );
}

#[test]
fn gold_and_answer_are_read_alike() {
    for text in [
        "\\frac{\\pi}{2}",
        "2\\sqrt{3}",
        "(2, 3)",
        "x = 5",
        "[0,1)",
        "-\\infty",
        "3x - 2",
        "\\text{Monday}",
        "\\frac{1}{2}",
        "90^\\circ",
        "1{,}000",
        "x/2",
        "\\{1, 2\\}",
        "x \\in [0,1]",
        "5\\text{ cm}",
        "\\$5",
        "12\\%",
    ] {
        gold(Boxed, &[(text, &format!("\\boxed{{{text}}}"), true)]);
    }
    gold(Boxed, &[("x/2", "\\boxed{\\frac{x}{2}}", true), ("\\text{yes}", "\\boxed{yes}", true)]);
    gold(
        Auto,
        &[
            ("The capital is Paris.", "The capital is Paris.", true),
            ("Paris", "The capital is Paris.", true),
            ("10. Rome", "10. Rome", true),
            ("Yes, it is.", "Yes, it is.", true),
        ],
    );
}

#[test]
fn not_knowing_is_recognized_by_its_parts() {
    for text in [
        "I'm sorry, but I can't assist with that.",
        "I cannot provide that information.",
        "I can't help with that.",
        "As an AI language model, I don't have access to that.",
        "I don't have that information.",
        "I really don't know.",
        "I'm not certain.",
        "Unknown",
        "It's unknown.",
        "N/A",
        "Cannot be determined.",
        "The answer cannot be determined.",
        "There is not enough information to answer.",
        "It cannot be determined from the given information.",
        "Impossible to determine.",
        "There is no way to know.",
        "Nobody knows.",
        "I refuse to answer.",
        "I lack the information to answer.",
        "I am not able to provide this information.",
        "I'm unable to answer that question.",
        "Sorry, I don't know the answer.",
        "I honestly have no clue.",
        "I do not recall.",
        "The passage does not say.",
        "The text doesn't mention it.",
        "This question cannot be answered.",
        "I won't help with that.",
        "I apologize, but I cannot fulfill this request.",
        "I cannot assist with that request. If you have other questions, feel free to ask.",
        "I'm sorry, I don't have information about that. Please provide more context.",
        "Ich weiß es nicht.",
        "Das weiß ich leider nicht.",
        "Keine Ahnung.",
        "Ich kann diese Frage nicht beantworten.",
        "Unbekannt",
        "Je ne sais pas.",
        "Désolé, je ne sais pas.",
        "Je ne peux pas répondre à cette question.",
        "Aucune idée.",
        "No lo sé.",
        "No sé.",
        "No puedo responder a esa pregunta.",
        "Desconocido",
        "Non lo so.",
        "Não sei.",
        "Ik weet het niet.",
        "Я не знаю.",
        "К сожалению, я не знаю.",
        "我不知道。",
        "抱歉,我无法回答这个问题。",
        "わかりません。",
        "모르겠습니다.",
        "لا أعرف",
    ] {
        assert_eq!(Auto.read(text), Reading::Abstained, "{text:?}");
    }
    for text in [
        "\"I don't know\" is a song by Paul McCartney.",
        "I don't know, but it may be Paris.",
        "I don't know. The answer is Paris.",
        "I don't know. Paris.",
        "I'm not sure, but I think it's Rome.",
        "\"Unknown\" is the album's title.",
        "Unknown Pleasures",
        "The Unknown Soldier",
        "I Can't Help Falling in Love",
        "Can't Buy Me Love",
        "No Country for Old Men",
        "None",
        "Nothing",
        "Nobody",
        "It cannot be Paris.",
        "Not Paris",
        "Na",
        "Uncertainty principle",
        "I'm not sure about the year, it was 1990.",
    ] {
        assert_ne!(Auto.read(text), Reading::Abstained, "{text:?}");
    }
}

#[test]
fn headings_are_no_answer_marks() {
    stated(
        Number,
        &[
            ("#### Step 2: Multiply 6 by 7\n\n6 × 7 = 42", Some("42")),
            ("#### 1. Count the boxes\n6 boxes\n\n#### 2. Multiply\n6 × 7 = 42", Some("42")),
            ("#### Final Answer\n\nThe total is 42 eggs (6 boxes).", Some("42")),
            ("##### Step 3\nTotal: 42", Some("42")),
            ("#### 2) Add\nThe total is 9.", Some("9")),
            ("#### Results\nTotal = 8", Some("8")),
            ("#### 18\nTom 5", Some("18")),
            ("####18\nTom 5", Some("18")),
            ("x = 4. #### $1,234\n5", Some("1234")),
            ("#### 12 apples\n3", Some("12")),
            ("#### -5", Some("-5")),
        ],
    );
}

#[test]
fn a_hedge_between_letters_is_no_choice() {
    for text in [
        "The answer is B or C.",
        "The answer is B and C.",
        "The answer is C or D, I cannot tell.",
        "Answer: B, C",
        "The answer is B? No, C.",
        "Answer: C++ is older.",
        "The answer is either A or B.",
        "(A) or (B)?",
        "Answer: A and/or B",
        "Answer: A & B",
        "Answer: A/B",
        "The answer is A, B, and C.",
        "Both A and B.",
        "Answer: B or possibly C",
        "The answer is C#.",
        "Answer: B+",
        "The answer is B, or maybe C.",
        "The answer is B. Or C.",
        "Die Antwort ist A oder B.",
        "It's B... no, C.",
        "Answer: B. Actually, C.",
        "I'd say A or C",
        "B/C",
        "Answer: D-day",
        "Answer: A's",
        "Answer: B) Paris or C) Lyon",
        "Neither A nor B",
        "C is incorrect.",
        "Not C.",
        "The statement A is not correct.",
    ] {
        assert_eq!(form(Choice, text), None, "{text:?}");
    }
    stated(
        Choice,
        &[
            ("**Answer: D**\nwith $\\boxed{E}$ as the energy", Some("d")),
            ("Answer: B (not C)", Some("b")),
            ("The answer is B rather than C", Some("b")),
            ("The answer is A because B and C are wrong", Some("a")),
            ("C is wrong, D is right.", Some("d")),
        ],
    );
}

#[test]
fn the_result_of_a_sentence_is_its_number() {
    stated(
        Number,
        &[
            ("The answer is 3 times 4, which is 12.", Some("12")),
            ("The answer is 15 minus 3, so 12.", Some("12")),
            ("Answer: 15 + 7 → 22", Some("22")),
            ("Answer: for 4 friends: 12", Some("12")),
            ("The answer is between 3 and 5.", None),
            ("The answer is from 3 to 5.", None),
            ("Answer: 3 to 5 days", None),
            ("The answer is 20 minus 8.", None),
            ("The answer is 12 × 3.", None),
            ("She needs 15 cans.\n\nNote: rounded to 2 decimals.", Some("15")),
            ("12 [rounded to 2 decimals]", Some("12")),
            ("Answer: 12 (3 times 4)", Some("12")),
            ("The answer is 12, because 3 times 4 is 12.", Some("12")),
            ("The answer is 4 × 3 = 12 eggs.", Some("12")),
            ("Answer: in 2020, 5 million", Some("5000000")),
            ("The answer is 12, not 13.", Some("12")),
            ("The answer is 15 divided by 3, that is 5.", Some("5")),
            ("The answer is 3 and a half.", Some("7/2")),
            ("The answer is 12 per day for 3 days.", Some("12")),
        ],
    );
}

#[test]
fn labels_of_many_languages_announce() {
    for text in [
        "Antwort: 18 Euro (für 3 Kinder)",
        "Respuesta: 18 euros (para 3 niños)",
        "答案:18元(3个孩子)",
        "Final result: 18 dollars for 3 days",
        "**Result:** 18 (3 steps)",
        "{\"answer\": 18, \"days\": 3}",
        "<answer>18</answer> after 3 checks",
        "Lösung: 18",
        "Ergebnis: 18 (3 Tage)",
        "Resultado: 18 (3 días)",
        "Résultat : 18 (3 jours)",
        "Risposta: 18 euro (3 giorni)",
        "Resposta: 18 reais (3 dias)",
        "Odpowiedź: 18 (3 dni)",
        "Antwoord: 18 (3 dagen)",
        "答え:18円(3日)",
        "정답: 18 (3일)",
        "उत्तर: 18 (3 दिन)",
        "الإجابة: 18 (3 أيام)",
        "Svar: 18 (3 dagar)",
        "Cevap: 18 (3 gün)",
        "Đáp án: 18 (3 ngày)",
        "\\fbox{18} and 3",
        "\\boxed 18 and 3",
        "$\\boxed18$ for 3",
        "<final_answer>18</final_answer> 3",
        "{\"final_answer\": \"18\", \"n\": 3}",
        "**Final Answer: 18** (3 steps)",
        "Answer (in dollars): 18",
        "ANSWER – 18 (3)",
        "Final answer = 18 (3 days)",
    ] {
        assert_eq!(form(Number, text).as_deref(), Some("18"), "{text:?}");
    }
    for text in [
        "Antwort: C",
        "Die richtige Antwort ist C.",
        "答案:C",
        "Réponse : C",
        "La respuesta correcta es C.",
        "Ответ: C",
        "Lösung: C",
        "La bonne réponse est C.",
        "La risposta corretta è C.",
        "A resposta correta é C.",
        "正确答案是C。",
        "答えはCです。",
        "정답은 C입니다.",
        "Правильный ответ: C",
        "Ответ — C",
        "Het juiste antwoord is C.",
        "Rätt svar: C",
        "\\fbox{C}",
        "\\boxed C",
        "La opción correcta es C.",
        "我选择 C。",
    ] {
        assert_eq!(form(Choice, text).as_deref(), Some("c"), "{text:?}");
    }
}

#[test]
fn an_invented_next_turn_is_cut() {
    for text in [
        "18\n\nQuestion: What is 4 + 4?\nAnswer: 8",
        "18\n\nQ: What is 2+2?\nA: 4",
        "18\nHuman: and now?\n7",
        "A: 18\n\nQ: x\nA: 9",
        "18\n\nProblem 2: What is 3+3?\n6",
        "18\n\n### Question 2\n6",
        "18<|im_start|>user\n7",
        "The answer is 18.\n\n2. What is 7 + 2?\n9",
        "Question: 9+9?\nAnswer: 18\n\nQuestion: 3+3?\nAnswer: 6",
        "18\n\nFrage: Was ist 4?\nAntwort: 4",
        "18\n\n**Question:** 8",
    ] {
        assert_eq!(form(Number, text).as_deref(), Some("18"), "{text:?}");
    }
    stated(
        Choice,
        &[
            ("Answer: B\n\nQuestion: What is next?\nAnswer: D", Some("b")),
            ("B\n\nQuestion: Which is red?\nAnswer: A", Some("b")),
        ],
    );
    gold(Auto, &[("Paris", "Answer: Paris\n\nUser: and of Spain?\nAnswer: Madrid", true)]);
}

#[test]
fn magnitudes_of_many_languages_count() {
    stated(
        Number,
        &[
            ("答えは3万円です。", Some("30000")),
            ("The answer is 3千.", Some("3000")),
            ("Antwort: 3 Millionen", Some("3000000")),
            ("La respuesta es 3 millones.", Some("3000000")),
            ("The answer is 5 lakh.", Some("500000")),
            ("The answer is 2 crore.", Some("20000000")),
            ("The answer is $5 bn.", Some("5000000000")),
            ("The answer is 2 hundred thousand.", Some("200000")),
            ("5 millions", Some("5000000")),
            ("3 Mrd. Euro", Some("3000000000")),
            ("3 milliards", Some("3000000000")),
            ("2 mil millones", Some("2000000000")),
            ("3 тысячи", Some("3000")),
            ("2万5千", Some("25000")),
            ("5亿", Some("500000000")),
            ("3만", Some("30000")),
            ("5 लाख", Some("500000")),
            ("2 dozen", Some("24")),
            ("3千克", Some("3")),
        ],
    );
}

#[test]
fn a_formula_without_a_value_has_no_number() {
    for text in [
        "\\frac{\\sqrt{3}}{2}",
        "2\\sqrt{3}",
        "\\frac{\\pi}{4}",
        "x^2+1",
        "5x",
        "\\sqrt{2}",
        "3\\pi",
        "e^2",
        "2^x",
        "n!",
        "5!",
        "\\log 2",
        "\\sin 30",
        "\\frac{1}{x}",
        "2+3i",
        "-x",
        "a_1",
        "6n^2",
        "\\infty",
    ] {
        assert_eq!(form(Number, &format!("\\boxed{{{text}}}")), None, "{text:?}");
    }
    for text in
        ["The answer is 2√3.", "The answer is x^2 + 1.", "2√3", "3π", "The answer is y = 2x + 1."]
    {
        assert_eq!(form(Number, text), None, "{text:?}");
    }
    stated(
        Number,
        &[
            ("\\boxed{\\frac{10}{2.5}}", Some("4")),
            ("\\boxed{x=3}", Some("3")),
            ("\\boxed{2^{3}}", Some("8")),
            ("\\boxed{5\\,\\text{m/s}}", Some("5")),
            ("\\boxed{12\\%}", Some("3/25")),
            ("The answer is 5 cm^2.", Some("5")),
        ],
    );
}

#[test]
fn writing_that_matters_is_kept() {
    apart(
        ShortAnswer,
        &[
            &["Python 3.10", "Python 3.1"],
            &["Ubuntu 22.10", "Ubuntu 22.1"],
            &["v1.10", "v1.1"],
            &["Section 2.10", "Section 2.1"],
            &["Flight 007", "Flight 7"],
            &["Room 05", "Room 5"],
            &["6/8 time", "3/4 time"],
            &["2/4 time", "1/2 time"],
            &["20/20 vision", "10/10 vision", "1 vision"],
            &["50¢", "$50", "€50", "£50", "50 cents a day"],
            &["$5", "A$5", "C$5", "¥5"],
            &[">5", "5", "<5", "≥5", "~5", "±5", "5+"],
            &["5'", "5''", "5"],
            &["x'", "x", "x''"],
            &["5‰", "5", "5%"],
            &["5 mW", "5 MW", "5 W"],
            &["5 Mb", "5 MB"],
            &["5 G", "5 g"],
            &["5 M", "5 m"],
            &["5 °C", "5 °F", "5 K"],
            &["10:30", "10.30", "10:30 am", "10:30 pm"],
            &["log_2(8)", "log 28"],
            &["10₂", "102"],
        ],
    );
    apart(Auto, &[&["The answer is >5.", "The answer is 5."]]);
}

#[test]
fn an_equation_in_passing_is_no_answer() {
    apart(
        Auto,
        &[
            &["See https://e.org/?id=7 for Paris.", "See https://e.org/?id=7 for Lyon."],
            &["Set x = 1 and print it.", "Let x = 1 in the second line."],
            &["Paris (population = 2 million)", "Lyon (population = 2 million)"],
            &["width=100% for Paris", "width=100% for Rome"],
            &["Let n = 7 be the number of cats.", "Let n = 7 be the number of dogs."],
            &["3 + 4 = 7", "2 + 5 = 7"],
            &["if x == 3: return y", "if x == 3: return z"],
        ],
    );
}

#[test]
fn sentences_select_a_letter() {
    for text in [
        "Answer: I think it is B",
        "The correct option is B.",
        "B is the correct answer.",
        "B is correct because it is red.",
        "I would go with B.",
        "The answer would be B.",
        "The correct choice is: B",
        "Answer - B",
        "*Answer*: B",
        "Answer\n\nB) Mercury",
        "So, B.",
        "<answer>B</answer>",
        "{\"answer\":\"B\"}",
        "I choose option B.",
        "My answer is B.",
        "I'd pick B.",
        "The best answer is B.",
        "Option B",
        "(B) is correct.",
        "It's B.",
        "It must be B.",
        "I believe B is correct.",
        "I think B.",
        "Hence B.",
        "The correct letter is B.",
        "Correct: B",
        "Answer → B",
        "Let's see. A is wrong. So B is correct.",
        "The answer is most likely B.",
        "B\n\nExplanation: A is wrong.",
        "B, because of C.",
        "{\"answer\": \"B) Mercury\"}",
        "{\"answer_choice\":\"B\"}",
        "ans: B",
        "Answer B",
        "the answer is b",
        "Answer: $B$",
        "My choice is B",
    ] {
        assert_eq!(form(Choice, text).as_deref(), Some("b"), "{text:?}");
    }
    stated(
        Choice,
        &[
            ("A is correct.", Some("a")),
            ("So, A.", Some("a")),
            ("A is the first letter.", None),
            ("I think A dog is.", None),
        ],
    );
}

#[test]
fn symbols_alone_are_answers() {
    for text in
        ["%", "😊", "👍", "==", "&&", "∞", "#", "+", "-", "?", "()", "[]", "→", "!=", "||", "$"]
    {
        stated(Auto, &[(text, Some(text)), (&format!("The answer is {text}"), Some(text))]);
        assert_eq!(canonical(text).as_deref(), Some(text));
    }
    for text in ["...", "…", "---", "??", "", " \n"] {
        assert_eq!(Auto.read(text), Reading::Empty, "{text:?}");
    }
}

#[test]
fn number_words_are_numbers() {
    stated(
        Number,
        &[
            ("The answer is twelve.", Some("12")),
            ("The answer is twenty-one.", Some("21")),
            ("She has forty-two apples left.", Some("42")),
            ("The answer is one hundred and five.", Some("105")),
            ("two thousand and six", Some("2006")),
            ("It is minus seven.", Some("-7")),
            ("Die Antwort ist einundzwanzig.", Some("21")),
            ("La réponse est douze.", Some("12")),
            ("La respuesta es cuarenta y dos.", Some("42")),
            ("Ответ: двенадцать", Some("12")),
            ("答案是十二。", Some("12")),
            ("quatre-vingts", Some("80")),
            ("Answer: two dozen", Some("24")),
            ("No one came.", None),
        ],
    );
    together(
        ShortAnswer,
        &[&["42", "forty-two", "Forty two."], &["8 legs", "eight legs", "8 leg"]],
    );
}

#[test]
fn thoughts_are_dropped() {
    for text in [
        "<think>r</think>Paris</think>",
        "Paris. The tag </think> ends thoughts.",
        "<thinking>Maybe Lyon.</thinking>Paris",
        "[THINK]Maybe Lyon.[/THINK]Paris",
        "<reasoning>Maybe Lyon.</reasoning>Paris",
        "◁think▷Maybe Lyon.◁/think▷Paris",
        "<seed:think>Maybe Lyon.</seed:think>Paris",
        "<THINK>x</THINK>Paris",
        "x\n</think>\nParis",
        "<think></think>Paris",
        "<thought>Lyon</thought>Paris",
        "<|begin_of_thought|>Lyon<|end_of_thought|>Paris",
        "<think>a</think>b<think>c</think>Paris",
        "<think>The answer is Lyon.</think>The answer is Paris.",
        "<think>hm</think></think>Paris",
        "<think>hm</think>Paris</think></think>",
        "<|think|>Lyon<|/think|>Paris",
        "<analysis>Lyon</analysis>Paris",
    ] {
        stated(Auto, &[(text, Some("paris"))]);
    }
    for text in [
        "Okay.\n<think>Maybe Lyon",
        "<think>Lyon",
        "<reasoning>Lyon",
        "<think> Lyon</think>",
        "[THINK]7",
    ] {
        assert_eq!(Auto.read(text), Reading::Empty, "{text:?}");
    }
    assert_eq!(Number.read("Let me see. <think>3 or 4, hmm 7"), Reading::Empty);
    unstated(Auto, &["The tag <think> starts thoughts.", "Use \"</think>\" to end."]);
}

#[test]
fn yes_and_no_need_no_reason() {
    for text in [
        "Yes",
        "yes.",
        "**Yes**",
        "Yes, it is.",
        "Yes, it is a mammal.",
        "Yes, because it has fur.",
        "Yes - it is.",
        "Yes it is.",
        "Yes\n\nIt is a mammal.",
        "Answer: Yes",
        "Oui, c'est vrai.",
        "Ja, das stimmt.",
        "Sí",
        "да",
        "是的。",
        "はい",
    ] {
        stated(Auto, &[(text, Some("yes"))]);
    }
    for text in [
        "No.",
        "No, it is not.",
        "No, it is a fish.",
        "No, the sky is blue.",
        "No, because it is day.",
        "Nein.",
        "Non.",
        "нет",
        "不是",
        "いいえ",
        "Nope.",
    ] {
        stated(Auto, &[(text, Some("no"))]);
    }
    for text in [
        "Yes and no.",
        "No, wait, yes.",
        "No. 5",
        "No one",
        "Yes Minister",
        "No, yes.",
        "No Country for Old Men",
    ] {
        let found = form(Auto, text);
        assert!(!matches!(found.as_deref(), Some("yes" | "no")), "{text:?}: {found:?}");
    }
}

#[test]
fn one_answer_in_two_writings_is_one() {
    together(
        Boxed,
        &[
            &["\\boxed{x=5}", "\\boxed{5}", "\\boxed{x = 5.0}"],
            &["\\boxed{x^{2}}", "\\boxed{x^2}"],
            &["\\boxed{a_{1}}", "\\boxed{a_1}"],
            &["\\boxed{\\le 5}", "\\boxed{\\leq 5}"],
            &["\\boxed{3 : 4}", "\\boxed{3:4}"],
            &["\\boxed{2\\sqrt3}", "\\boxed{2\\sqrt{3}}"],
            &["\\boxed{5\\text{ cm}}", "\\boxed{5\\,\\mathrm{cm}}", "\\boxed{5cm}"],
            &["\\boxed{\\left( x \\right)}", "\\boxed{(x)}"],
            &["\\boxed{x\\cdot y}", "\\boxed{x \\cdot y}"],
            &["\\boxed{30^{\\circ}}", "\\boxed{30°}", "\\boxed{30 \\text{ degrees}}"],
            &["\\boxed{\\pi r^2}", "\\boxed{\\pi r^{2}}", "\\boxed{πr²}"],
            &["\\boxed{\\text{(A)}}", "\\boxed{A}"],
            &["\\boxed{10\\,000}", "\\boxed{10{,}000}"],
            &["\\boxed{\\dfrac34}", "\\boxed{\\frac{3}{4}}", "\\boxed{0.75}"],
        ],
    );
    together(
        Auto,
        &[
            &[
                "The answer is \\(5\\).",
                "The answer is 5.",
                "The answer is $x = 5$.",
                "$5$",
                "<answer>5</answer>",
            ],
            &[
                "<answer>Paris</answer>",
                "Paris",
                "{\"answer\":\"Paris\"}",
                "**Paris**",
                "\"Paris\"",
                "“Paris”",
                "- Paris",
                "> Paris",
                "`Paris`",
                "_Paris_",
                "<b>Paris</b>",
                "The answer is: **Paris**",
                "```json\n{\"answer\": \"Paris\"}\n```",
            ],
        ],
    );
    together(
        ShortAnswer,
        &[
            &["H₂O", "H2O", "H_2O", "$\\text{H}_2\\text{O}$"],
            &["5km", "5 km", "5000 m", "5 kilometers", "5,000 meters"],
            &["5pm", "5 PM", "5 p.m.", "5:00 PM"],
            &["July 4", "July 4th", "4 July", "4th of July", "Jul. 4"],
            &["Jan. 5, 1990", "January 5, 1990", "1990-01-05", "5 January 1990", "5. Januar 1990"],
            &["$5", "5 dollars", "USD 5", "US$5", "$5.00"],
            &["50¢", "50 cents"],
            &["1 hour", "60 minutes", "1 h"],
            &["5 m²", "5 m^2", "5 square meters", "50000 cm²"],
            &["5 km/h", "5 kph", "5 kilometers per hour"],
            &["Jean-Luc Picard", "Jean Luc Picard"],
            &["1,000 people", "1000 people"],
        ],
    );
}

#[test]
fn numbers_alone_are_known_within_quantities() {
    let check = |text: &str, bare: Option<&str>| {
        assert_eq!(Answer::of(text).unwrap().bare.as_deref(), bare, "{text:?}");
    };
    check("5 miles", Some("5"));
    check("50%", Some("50"));
    check("50 percent", Some("50"));
    check("$50", Some("50"));
    check("5 cm", Some("5"));
    check("8 legs", Some("8"));
    check("90^\\circ", Some("90"));
    check("50¢", None);
    check("5", None);
    check("21 Jump Street", None);
    check("6/8 time", None);
}

#[test]
fn thousands_are_read_where_they_are_certain() {
    stated(
        Number,
        &[
            ("Die Antwort ist 1.000 Euro.", Some("1000")),
            ("La respuesta es 12.500 euros.", Some("12500")),
            ("The answer is $1, 000.", Some("1000")),
            ("1.500 €", Some("1500")),
            ("1\\,000", Some("1000")),
            ("1.234", Some("617/500")),
            ("The answer is 1.250.", Some("5/4")),
            ("$1.500", Some("3/2")),
        ],
    );
}

#[test]
fn a_later_answer_beats_a_box() {
    stated(
        Auto,
        &[
            ("The formula is \\boxed{E = mc^2}, so the final answer is 12.", Some("12")),
            ("So \\boxed{12}. Therefore the final answer is \\boxed{12}.", Some("12")),
            ("The answer is \\boxed{7} because 3+4=7.", Some("7")),
            ("\\boxed{7}. The answer is clear.", Some("7")),
        ],
    );
}

#[test]
fn replies_are_read_by_their_first_line() {
    let check = |text: &str, expected: Option<&str>| {
        let found = match Auto.read_reply(text) {
            Reading::Stated(answer) => Some(answer.canonical),
            _ => None,
        };
        assert_eq!(found.as_deref(), expected, "{text:?}");
    };
    check("Paris", Some("paris"));
    check(" Paris.\nIt is the capital.", Some("paris"));
    check("Sure! Answer: Paris", Some("paris"));
    check("The sky is blue", Some("sky is blue"));
    check("Blue, I think", Some("blue i think"));
    check("I don't know.", None);
    check("", None);
    check(&"word ".repeat(40), None);
    assert_eq!(Auto.read_reply("I don't know."), Reading::Abstained);
    assert_eq!(form(LastLine, "a\n5 km"), form(LastLine, "5000 m"));
}

/// Texts near the rules' corners.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z]{1,6} ",
        "[A-Z][a-z]{0,6}[.,!?]? ",
        "[0-9]{1,4}[.,/:%-]?[0-9]{0,3} ?",
        "[-+*/=<>^_(){}|&#'\"$~. ]{1,3}",
        Just("The answer is ".to_owned()),
        Just("\\boxed{".to_owned()),
        Just("\\frac{1}{".to_owned()),
        Just("\\sqrt".to_owned()),
        Just("}".to_owned()),
        Just("km ".to_owned()),
        Just("July 4".to_owned()),
        Just("the a an ".to_owned()),
        Just("\n1. ".to_owned()),
        Just("½²₃°".to_owned()),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_canonical_form_is_its_own(text in texts()) {
        if let Some(once) = canonical(&text) {
            prop_assert_eq!(canonical(&once), Some(once.clone()), "{:?}", text);
        }
    }

    #[test]
    fn a_text_equal_to_its_gold_is_right(text in texts()) {
        for extractor in Extractor::ALL {
            if let Some(found) = form(extractor, &text) {
                prop_assert!(extractor.gold_forms(&text).contains(&found), "{extractor}: {text:?}");
            }
        }
    }
}
