//! Words that are values: numbers in words, yes and no.
//!
//! Contract: total, and linear. A word counts only if it is the whole text. English number words
//! are values everywhere; those of other languages are only where a number is looked for, since
//! `Otto` and `due` are words of their own.

/// Words or phrases with `|` between them.
#[derive(Clone, Copy)]
pub(super) struct List(pub &'static str);

impl List {
    pub fn iter(self) -> std::str::Split<'static, char> {
        self.0.split('|')
    }

    pub fn has(self, word: &str) -> bool {
        self.iter().any(|listed| listed == word)
    }
}

/// Number words of a language, from zero to twenty, then the tens to ninety: the value of one.
fn small_number(language: &str, word: &str) -> Option<u64> {
    let place = language.split(' ').position(|listed| listed == word)? as u64;
    Some(if place <= 20 { place } else { (place - 18) * 10 })
}

const ENGLISH: &str = "zero one two three four five six seven eight nine ten eleven twelve \
                       thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty \
                       thirty forty fifty sixty seventy eighty ninety";

const MAGNITUDES: &[(&str, u64)] = &[
    ("dozen", 12),
    ("hundred", 100),
    ("thousand", 1000),
    ("million", 1_000_000),
    ("billion", 1_000_000_000),
    ("trillion", 1_000_000_000_000),
];

/// Other languages, as [`ENGLISH`].
const OTHERS: &[&str] = &[
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig",
    "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit dix-neuf vingt trente quarante cinquante soixante soixante-dix quatre-vingts quatre-vingt-dix",
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete dieciocho diecinueve veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa",
    "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici sedici diciassette diciotto diciannove venti trenta quaranta cinquanta sessanta settanta ottanta novanta",
    "zero um dois três quatro cinco seis sete oito nove dez onze doze treze quatorze quinze dezesseis dezessete dezoito dezenove vinte trinta quarenta cinquenta sessenta setenta oitenta noventa",
    "ноль один два три четыре пять шесть семь восемь девять десять одиннадцать двенадцать тринадцать четырнадцать пятнадцать шестнадцать семнадцать восемнадцать девятнадцать двадцать тридцать сорок пятьдесят шестьдесят семьдесят восемьдесят девяносто",
    "零 一 二 三 四 五 六 七 八 九 十 十一 十二 十三 十四 十五 十六 十七 十八 十九 二十 三十 四十 五十 六十 七十 八十 九十",
];

/// The value of a text that is an English number: `forty-two`, `two hundred and five`, `minus six`.
pub(super) fn number(text: &str) -> Option<i128> {
    if text.len() > 200 || !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let lower = text.trim_end_matches('.').to_ascii_lowercase();
    let mut words = lower.split([' ', '-']).filter(|word| !word.is_empty()).peekable();
    let negative = words.next_if(|word| matches!(*word, "minus" | "negative")).is_some();
    let (mut total, mut group, mut last) = (0_u64, 0_u64, u64::MAX);
    let mut any = false;
    while let Some(word) = words.next() {
        let magnitude = |word: &&str| MAGNITUDES.iter().any(|(name, _)| name == word);
        if word == "a" && !any && words.peek().is_some_and(magnitude) {
            group = 1;
            last = 1;
        } else if word == "and" {
            if !any || words.peek().is_none() {
                return None;
            }
        } else if let Some(value) = small_number(ENGLISH, word) {
            // "twenty one" adds up, "one two" does not.
            let fits = match last {
                20..=90 => (1..10).contains(&value),
                100.. => true,
                _ => false,
            };
            if !fits {
                return None;
            }
            group += value;
            last = value;
        } else if let Some((_, value)) = MAGNITUDES.iter().find(|(name, _)| *name == word) {
            if !any || group == 0 {
                return None;
            }
            if *value <= 100 {
                group = group.checked_mul(*value)?;
            } else {
                total = total.checked_add(group.checked_mul(*value)?)?;
                group = 0;
            }
            last = u64::MAX;
        } else {
            return None;
        }
        any = true;
    }
    let value = i128::from(total.checked_add(group)?);
    any.then_some(if negative { -value } else { value })
}

/// As [`number`], in any language of the table, for a place where a number is expected.
pub(super) fn number_in_any_language(text: &str) -> Option<i128> {
    if let Some(value) = number(text) {
        return Some(value);
    }
    if text.len() > 60 {
        return None;
    }
    let lower = text.trim().trim_end_matches(['.', '。']).to_lowercase();
    OTHERS.iter().find_map(|language| {
        let value = |word: &str| small_number(language, word).map(i128::from);
        // Tens and ones, in the order and with the joint of the language.
        let sum = |tens: &str, ones: &str| {
            let (tens, ones) = (value(tens)?, value(ones)?);
            (tens >= 20 && (1..10).contains(&ones)).then_some(tens + ones)
        };
        let one = |word: &str| if word == "ein" { "eins".to_owned() } else { word.to_owned() };
        value(&lower)
            .or_else(|| {
                let joints = [" y ", " e ", " et ", "-et-", "-", " "];
                joints.iter().find_map(|joint| {
                    let (tens, ones) = lower.split_once(joint)?;
                    sum(tens, ones)
                })
            })
            .or_else(|| {
                let (ones, tens) = lower.split_once("und")?;
                sum(tens, &one(ones))
            })
            .or_else(|| {
                let (tens, ones) = lower.split_once('十')?;
                sum(&format!("{tens}十"), ones)
            })
    })
}

/// `yes` or `no` for a word that means nothing else.
pub(super) fn polarity(text: &str) -> Option<&'static str> {
    const YES: List = List(
        "yes|yep|yeah|oui|ja|sí|sì|sim|да|是|是的|はい|네|예|نعم|evet|hai|כן|हाँ|हां|tak|ano|так",
    );
    const NO: List = List(
        "no|nope|non|nein|não|nee|нет|不是|不|否|いいえ|아니요|아니오|لا|hayır|לא|नहीं|nie|ні|nej",
    );
    if text.len() > 24 {
        return None;
    }
    let word = text.to_lowercase();
    if YES.has(&word) {
        Some("yes")
    } else if NO.has(&word) {
        Some("no")
    } else {
        None
    }
}
