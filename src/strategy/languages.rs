//! Languages: the question is also asked in other languages and in other words, and an answer that
//! depends on the language is not given (Badanin et al., arXiv 2601.12549; multilingual consensus:
//! arXiv 2503.23687).
//!
//! The model itself translates and rewords the question, greedily. Each variant gets an equal part
//! of the samples, and all vote together; a variant asks for its answer in the language of the
//! question, so that answers are compared as always. The probe `agreement` is the share of variants
//! whose own leading answer is the leading one; its parts are, for each variant, the share of its
//! samples that give it: agreement across and within.

use serde::{Deserialize, Serialize};

use super::{Prefix, Question, Session};
use crate::error::{Error, Result};
use crate::generation::{Generation, Message, Probe, Role, SamplingParams};

/// The languages by the order in which they are used.
const LANGUAGES: [&str; 6] = ["Spanish", "French", "German", "Chinese", "Portuguese", "Italian"];
/// How the question is worded again.
const WORDINGS: [&str; 3] = [
    "Say the same in other words.",
    "Say the same as a polite request.",
    "Say the same as briefly as possible.",
];
/// Tokens of a translation at most, beyond twice those of the question.
const FURTHER_TOKENS: usize = 32;

/// How the question is varied.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Languages {
    /// Other languages, 0 to 6, in this order: Spanish, French, German, Chinese, Portuguese,
    /// Italian.
    pub languages: usize,
    /// Other wordings, 0 to 3.
    pub wordings: usize,
    /// The share of variants that must lead to the same answer, 0 to 1; 0 leaves the decision to
    /// the vote.
    pub min_agreement: f64,
}

impl Languages {
    /// Two languages and one wording beside the question itself.
    pub const DEFAULT: Self = Self { languages: 2, wordings: 1, min_agreement: 0.5 };

    pub(super) fn validate(self) -> Result<()> {
        let check = |name: &str, value: usize, most: usize| {
            let refusal = || Error::usage(format!("{name} is {value}; it must be 0 to {most}"));
            if value <= most { Ok(()) } else { Err(refusal()) }
        };
        check("languages", self.languages, LANGUAGES.len())?;
        check("wordings", self.wordings, WORDINGS.len())?;
        super::check_share("min_agreement", self.min_agreement)
    }

    pub(super) async fn run(self, session: &Session, question: &Question) -> Result<Generation> {
        let own = session.render(&question.messages)?;
        let mut drawn = Generation::default();
        drawn.cost.tokens.prompt_tokens = own.prompt.tokens.len();
        let mut prefixes = vec![own];
        for text in self.variants(session, question, &mut drawn).await? {
            let mut messages = question.messages.clone();
            if let Some(last) = messages.iter_mut().rev().find(|m| m.role == Role::User) {
                last.content = text;
            }
            let prefix = session.render(&messages)?;
            session.add_prompt(&prefix);
            prefixes.push(prefix);
        }
        let each = session.params().n.div_ceil(prefixes.len());
        for (number, prefix) in prefixes.iter().enumerate() {
            let mut variant = session.sample(prefix, 0..each).await?;
            variant.completions.iter_mut().for_each(|completion| completion.prompt = number);
            drawn.cost.add(&variant.cost);
            drawn.completions.extend(variant.completions);
        }
        let vote = session.vote(question, &mut drawn).await?;
        let Some(leader) = vote.leader().filter(|leader| !leader.is_abstention()) else {
            return Ok(drawn);
        };
        let given = |samples: &[usize], variant: usize| {
            samples.iter().filter(|sample| drawn.completions[**sample].prompt == variant).count()
        };
        let leads = |variant: &usize| {
            let most = vote.clusters.iter().map(|cluster| given(&cluster.samples, *variant)).max();
            let own = given(&leader.samples, *variant);
            own > 0 && Some(own) == most
        };
        let variants = prefixes.len();
        let value = (0..variants).filter(leads).count() as f64 / variants as f64;
        let parts =
            (0..variants).map(|variant| given(&leader.samples, variant) as f64 / each as f64);
        let probe = Probe {
            name: "agreement".to_owned(),
            answer: leader.answer.clone(),
            value,
            parts: parts.collect(),
            required: (self.min_agreement > 0.0).then_some(self.min_agreement),
        };
        drawn.probes.push(probe);
        Ok(drawn)
    }

    /// The texts of the other variants.
    async fn variants(
        self,
        session: &Session,
        question: &Question,
        drawn: &mut Generation,
    ) -> Result<Vec<String>> {
        let asked = question.asked().text;
        let translations = LANGUAGES.iter().take(self.languages).map(|language| {
            format!("Translate into {language}. Write the translation alone.\n\n{asked}")
        });
        let wordings = WORDINGS.iter().take(self.wordings).map(|wording| {
            format!("{wording} Do not answer it; write the new text alone.\n\n{asked}")
        });
        let params = SamplingParams {
            temperature: 0.0,
            max_tokens: 2 * session.encode(&asked)?.len() + FURTHER_TOKENS,
            ..SamplingParams::default()
        };
        let mut requests: Vec<(Prefix, SamplingParams)> = Vec::new();
        for prompt in translations.chain(wordings) {
            let prefix = session.closed(&session.render(&[Message::user(prompt)])?);
            requests.push((prefix, params.clone()));
        }
        let prompt_tokens = requests.iter().map(|(prefix, _)| prefix.prompt.tokens.len()).sum();
        let (texts, mut cost) = session.sample_each(requests).await?;
        cost.tokens.prompt_tokens = prompt_tokens;
        drawn.cost.add(&cost);
        let mut variants: Vec<String> =
            texts.iter().map(|reply| reply.answer_text().trim().to_owned()).collect();
        for text in variants.iter_mut().take(self.languages) {
            text.push_str("\n\n(Reply in the language of this sentence: English.)");
        }
        variants.retain(|text| !text.is_empty());
        Ok(variants)
    }
}

impl Default for Languages {
    fn default() -> Self {
        Self::DEFAULT
    }
}
