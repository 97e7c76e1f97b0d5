//! Relations between named things: 26 kinds of fact, such as a country's capital or a person's
//! instrument, 9,646 of them.
//!
//! A question is the first zero-shot template of its relation with the subject filled in, to be
//! completed ("The capital of France is the city of"). A subject with several right objects is one
//! question.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::whole;
use crate::consensus::Extractor;
use crate::error::{Error, Result};
use crate::eval::task::Source;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static RELATIONS: Task = Task {
    name: "relations",
    summary: "facts to complete, 26 relations such as a country's capital; 9,646",
    source: "Hernandez et al., arXiv 2308.09124",
    license: "MIT",
    files: &[
        "relations_lre/data/factual/city_in_country.json",
        "relations_lre/data/factual/company_ceo.json",
        "relations_lre/data/factual/company_hq.json",
        "relations_lre/data/factual/country_capital_city.json",
        "relations_lre/data/factual/country_currency.json",
        "relations_lre/data/factual/country_language.json",
        "relations_lre/data/factual/country_largest_city.json",
        "relations_lre/data/factual/food_from_country.json",
        "relations_lre/data/factual/landmark_in_country.json",
        "relations_lre/data/factual/landmark_on_continent.json",
        "relations_lre/data/factual/person_band_lead_singer.json",
        "relations_lre/data/factual/person_father.json",
        "relations_lre/data/factual/person_mother.json",
        "relations_lre/data/factual/person_native_language.json",
        "relations_lre/data/factual/person_occupation.json",
        "relations_lre/data/factual/person_plays_instrument.json",
        "relations_lre/data/factual/person_plays_position_in_sport.json",
        "relations_lre/data/factual/person_plays_pro_sport.json",
        "relations_lre/data/factual/person_university.json",
        "relations_lre/data/factual/pokemon_evolutions.json",
        "relations_lre/data/factual/presidents_birth_year.json",
        "relations_lre/data/factual/presidents_election_year.json",
        "relations_lre/data/factual/product_by_company.json",
        "relations_lre/data/factual/star_constellation.json",
        "relations_lre/data/factual/superhero_archnemesis.json",
        "relations_lre/data/factual/superhero_person.json",
    ],
    question_template: "Complete this with a name or a few words and nothing else: {question}",
    scorer: Scorer::Exact,
    extractor: Extractor::ShortAnswer,
    load,
};

#[derive(Deserialize)]
struct Relation {
    name: String,
    prompt_templates_zs: Vec<String>,
    samples: Vec<Fact>,
}

#[derive(Deserialize)]
struct Fact {
    subject: String,
    object: String,
}

fn load(source: &Source<'_>) -> Result<Vec<Doc>> {
    let relation: Relation = whole(source)?;
    let template = relation.prompt_templates_zs.first().filter(|template| template.contains("{}"));
    let template = template.ok_or_else(|| {
        Error::invalid_file(source.path, "no zero-shot template with {} for the subject")
    })?;
    let mut docs: Vec<Doc> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for Fact { subject, object } in &relation.samples {
        if let Some(doc) = places.get(subject.as_str()).and_then(|place| docs.get_mut(*place)) {
            doc.answers.push(object.clone());
        } else {
            places.insert(subject, docs.len());
            let id = format!("relations:{}:{subject}", relation.name);
            docs.push(Doc::new(id, template.replace("{}", subject), vec![object.clone()]));
        }
    }
    Ok(docs)
}
