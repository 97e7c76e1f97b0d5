//! Invented entities against real ones, made on the spot: every question about a country, a
//! chemical element or a city that exists has a twin about one that does not, which nobody can
//! answer.
//!
//! The twins differ in the name alone, and the frame does not say that a name may be invented: what
//! is asked is whether the model notices. Invented names are put together of syllables, and none
//! is, holds, or is held by a real name of its kind that is asked about.

use super::SHORT;
use super::draw::Stream;
use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static INVENTED: Task = Task {
    name: "invented",
    summary: "questions about real countries, elements and cities, and as many about invented \
              ones, made on the spot; 150 and 150",
    source: "candor",
    license: "CC0-1.0",
    files: &[],
    question_template: SHORT,
    scorer: Scorer::Exact,
    extractor: Extractor::ShortAnswer,
    load: |_| Ok(KINDS.iter().enumerate().flat_map(|(tag, kind)| kind.docs(tag as u64)).collect()),
};

/// Names the streams.
const TAG: u64 = 0x696e_7665_6e74_6564;

/// Entities of one kind, and what is asked about them.
struct Kind {
    name: &'static str,
    /// The question, with `{}` where the entity goes.
    question: &'static str,
    /// Entities with the answers that are right, `|` between them.
    real: &'static [(&'static str, &'static str)],
    /// How an invented name ends.
    endings: &'static [&'static str],
}

impl Kind {
    /// Each real question, followed by its invented twin.
    fn docs(&self, tag: u64) -> Vec<Doc> {
        let mut stream = Stream::new(TAG, tag);
        let mut taken: Vec<String> =
            self.real.iter().map(|(name, _)| name.to_lowercase()).collect();
        let twins = |(real, answers): &(&str, &str)| {
            let invented = self.invent(&mut stream, &taken);
            taken.push(invented.to_lowercase());
            let known = Doc {
                answerable: Some(true),
                ..self.doc(real, answers.split('|').map(str::to_owned).collect())
            };
            [known, Doc { answerable: Some(false), ..self.doc(&invented, Vec::new()) }]
        };
        self.real.iter().flat_map(twins).collect()
    }

    fn doc(&self, entity: &str, answers: Vec<String>) -> Doc {
        Doc::new(
            format!("invented:{}:{entity}", self.name),
            self.question.replace("{}", entity),
            answers,
        )
    }

    /// Three syllables and an ending that make no name that is taken.
    fn invent(&self, stream: &mut Stream, taken: &[String]) -> String {
        loop {
            let mut syllable = || SYLLABLES[stream.below(SYLLABLES.len())];
            let stem = [syllable(), syllable(), syllable()].concat();
            let name = stem + self.endings[stream.below(self.endings.len())];
            if !taken.iter().any(|other| other.contains(&name) || name.contains(other.as_str())) {
                let (first, rest) = name.split_at(1);
                return first.to_uppercase() + rest;
            }
        }
    }
}

/// No two of them in a row make a word that names something.
const SYLLABLES: &[&str] = &[
    "bru", "cal", "dov", "fen", "gor", "hul", "jar", "kel", "lom", "mav", "nex", "orv", "pru",
    "quo", "rem", "sil", "tav", "ulm", "vek", "wol", "yar", "zin",
];

const KINDS: &[Kind] = &[
    Kind {
        name: "capital",
        question: "What is the capital of {}?",
        real: &[
            ("Afghanistan", "Kabul"),
            ("Albania", "Tirana"),
            ("Algeria", "Algiers"),
            ("Angola", "Luanda"),
            ("Argentina", "Buenos Aires"),
            ("Armenia", "Yerevan"),
            ("Australia", "Canberra"),
            ("Austria", "Vienna"),
            ("Azerbaijan", "Baku"),
            ("Bangladesh", "Dhaka"),
            ("Belgium", "Brussels"),
            ("Botswana", "Gaborone"),
            ("Brazil", "Brasília|Brasilia"),
            ("Bulgaria", "Sofia"),
            ("Cambodia", "Phnom Penh"),
            ("Canada", "Ottawa"),
            ("Chile", "Santiago"),
            ("China", "Beijing"),
            ("Colombia", "Bogotá|Bogota"),
            ("Croatia", "Zagreb"),
            ("Cuba", "Havana"),
            ("Denmark", "Copenhagen"),
            ("Ecuador", "Quito"),
            ("Egypt", "Cairo"),
            ("Estonia", "Tallinn"),
            ("Ethiopia", "Addis Ababa"),
            ("Finland", "Helsinki"),
            ("France", "Paris"),
            ("Germany", "Berlin"),
            ("Ghana", "Accra"),
            ("Greece", "Athens"),
            ("Hungary", "Budapest"),
            ("Iceland", "Reykjavík|Reykjavik"),
            ("India", "New Delhi|Delhi"),
            ("Indonesia", "Jakarta"),
            ("Iran", "Tehran"),
            ("Iraq", "Baghdad"),
            ("Ireland", "Dublin"),
            ("Italy", "Rome"),
            ("Jamaica", "Kingston"),
            ("Japan", "Tokyo"),
            ("Jordan", "Amman"),
            ("Kenya", "Nairobi"),
            ("Latvia", "Riga"),
            ("Lebanon", "Beirut"),
            ("Lithuania", "Vilnius"),
            ("Madagascar", "Antananarivo"),
            ("Mexico", "Mexico City"),
            ("Mongolia", "Ulaanbaatar|Ulan Bator"),
            ("Morocco", "Rabat"),
            ("Mozambique", "Maputo"),
            ("Namibia", "Windhoek"),
            ("Nepal", "Kathmandu"),
            ("New Zealand", "Wellington"),
            ("Norway", "Oslo"),
            ("Pakistan", "Islamabad"),
            ("Paraguay", "Asunción|Asuncion"),
            ("Peru", "Lima"),
            ("Poland", "Warsaw"),
            ("Portugal", "Lisbon"),
            ("Romania", "Bucharest"),
            ("Russia", "Moscow"),
            ("Senegal", "Dakar"),
            ("Serbia", "Belgrade"),
            ("Slovakia", "Bratislava"),
            ("Slovenia", "Ljubljana"),
            ("South Korea", "Seoul"),
            ("Spain", "Madrid"),
            ("Sweden", "Stockholm"),
            ("Thailand", "Bangkok"),
            ("Tunisia", "Tunis"),
            ("Turkey", "Ankara"),
            ("Uganda", "Kampala"),
            ("Ukraine", "Kyiv|Kiev"),
            ("Uruguay", "Montevideo"),
            ("Venezuela", "Caracas"),
            ("Vietnam", "Hanoi"),
            ("Yemen", "Sanaa|Sana'a"),
            ("Zambia", "Lusaka"),
            ("Zimbabwe", "Harare"),
        ],
        endings: &["ania", "istan", "ovia", "aria"],
    },
    Kind {
        name: "symbol",
        question: "What is the chemical symbol of the element {}?",
        real: &[
            ("Hydrogen", "H"),
            ("Helium", "He"),
            ("Lithium", "Li"),
            ("Beryllium", "Be"),
            ("Carbon", "C"),
            ("Nitrogen", "N"),
            ("Oxygen", "O"),
            ("Fluorine", "F"),
            ("Neon", "Ne"),
            ("Sodium", "Na"),
            ("Magnesium", "Mg"),
            ("Aluminium", "Al"),
            ("Silicon", "Si"),
            ("Phosphorus", "P"),
            ("Sulfur", "S"),
            ("Chlorine", "Cl"),
            ("Argon", "Ar"),
            ("Potassium", "K"),
            ("Calcium", "Ca"),
            ("Titanium", "Ti"),
            ("Chromium", "Cr"),
            ("Manganese", "Mn"),
            ("Iron", "Fe"),
            ("Cobalt", "Co"),
            ("Nickel", "Ni"),
            ("Copper", "Cu"),
            ("Zinc", "Zn"),
            ("Arsenic", "As"),
            ("Silver", "Ag"),
            ("Tin", "Sn"),
            ("Iodine", "I"),
            ("Tungsten", "W"),
            ("Platinum", "Pt"),
            ("Gold", "Au"),
            ("Lead", "Pb"),
        ],
        endings: &["ium", "ogen", "onium"],
    },
    Kind {
        name: "country",
        question: "In which country is the city of {}?",
        real: &[
            ("Barcelona", "Spain"),
            ("Bergen", "Norway"),
            ("Bordeaux", "France"),
            ("Brisbane", "Australia"),
            ("Casablanca", "Morocco"),
            ("Chennai", "India"),
            ("Dresden", "Germany"),
            ("Durban", "South Africa"),
            ("Edinburgh", "Scotland|United Kingdom|UK"),
            ("Florence", "Italy"),
            ("Geneva", "Switzerland"),
            ("Gothenburg", "Sweden"),
            ("Graz", "Austria"),
            ("Guadalajara", "Mexico|Spain"),
            ("Hamburg", "Germany"),
            ("Houston", "United States|USA|United States of America|US"),
            ("Istanbul", "Turkey|Türkiye"),
            ("Karachi", "Pakistan"),
            ("Krakow", "Poland"),
            ("Kyoto", "Japan"),
            ("Lagos", "Nigeria"),
            ("Lyon", "France"),
            ("Manila", "Philippines"),
            ("Medellín", "Colombia"),
            ("Mombasa", "Kenya"),
            ("Montreal", "Canada"),
            ("Mumbai", "India"),
            ("Naples", "Italy"),
            ("Osaka", "Japan"),
            ("Rotterdam", "Netherlands"),
            ("Saint Petersburg", "Russia|United States"),
            ("Salzburg", "Austria"),
            ("Seville", "Spain"),
            ("Shanghai", "China"),
            ("Tampere", "Finland"),
        ],
        endings: &["burg", "grad", "ville", "ford"],
    },
];
