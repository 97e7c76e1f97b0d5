//! The session: all that a strategy, a probe or a reader of answers may do with an engine.
//!
//! A strategy is one straight `async fn` over a session; `await` means "until the engine has
//! finished this request". It needs no runtime and no wakers: the [`Executor`] polls every
//! task, submits what they asked for, steps the engine once, and delivers the replies, in a fixed
//! order. A session knows neither which engine computes nor which other questions are in flight.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::consensus::Reader;
use crate::encoder::Encoder;
use crate::engine::{
    Alternatives, CacheHold, Engine, Reply, Request, RequestId, ScoredTokens, StepControl,
    TokenEvent,
};
use crate::error::{Error, Result};
use crate::generation::{Completion, Cost, Generation, Message, SamplingParams, Spans, Token};
use crate::prompt::{Prompt, PromptFormat, Reasoning};
use crate::tokenizer::Tokenizer;

/// A callback of one request; it may stop samples.
pub type Watch = Box<dyn FnMut(&TokenEvent<'_>) -> StepControl>;

/// What every session of a pipeline shares.
pub struct SessionContext {
    /// Renders messages.
    pub format: PromptFormat,
    /// Text to ids and back.
    pub tokenizer: std::sync::Arc<Tokenizer>,
    /// Token ids that end a sample.
    pub end_tokens: Vec<u32>,
    /// Largest number of tokens of prompt and output together.
    pub context: usize,
    /// How tokens are drawn, and how many samples a strategy may draw.
    pub params: SamplingParams,
    /// How answers are read, grouped and weighed.
    pub reader: Reader,
    /// What compares answers, where the reader names an encoder.
    pub encoder: Option<Encoder>,
}

/// One question's access to the engine. Clones are the same session.
#[derive(Clone)]
pub struct Session {
    shared: Rc<SessionContext>,
    mailbox: Rc<RefCell<Mailbox>>,
}

/// Requests on their way to the engine, and replies on their way back.
#[derive(Default)]
struct Mailbox {
    next_ticket: u64,
    outgoing: Vec<(u64, Request, Option<Watch>)>,
    replies: HashMap<u64, Result<Reply>>,
    notes: Vec<String>,
    /// The prompts that samples answer, see [`Completion::prompt`]. They are kept so that whatever
    /// follows the samples finds their cache.
    prompts: Vec<Prefix>,
}

/// A prompt, possibly with what follows it, whose keys and values stay in the prefix cache while
/// this handle or one made from it lives.
#[derive(Clone, Debug)]
pub struct Prefix {
    /// Token ids and the rest of the prompt.
    pub prompt: Prompt,
    hold: CacheHold,
}

/// A distribution over a few labels.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelProbabilities {
    /// The probability of each label given that one of them comes next; they sum to 1.
    pub probabilities: Vec<f64>,
    /// The probability that any of them comes next, 0 to 1: near 0 the model wants to say
    /// something else, and the probabilities mean little.
    pub mass: f64,
}

impl Session {
    /// A session for one question.
    pub fn new(shared: &Rc<SessionContext>) -> Self {
        Self { shared: Rc::clone(shared), mailbox: Rc::default() }
    }

    /// How tokens are drawn; `n` is how many samples the strategy may draw.
    pub fn params(&self) -> &SamplingParams {
        &self.shared.params
    }

    /// The prompt format.
    pub fn format(&self) -> &PromptFormat {
        &self.shared.format
    }

    /// Largest number of tokens of prompt and output together.
    pub fn context(&self) -> usize {
        self.shared.context
    }

    /// Deviations of the rendered prompts from what was asked, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        self.mailbox.borrow().notes.clone()
    }

    /// Says something about the result, a sentence, once.
    pub(super) fn add_note(&self, note: impl Into<String>) {
        let (note, mut mailbox) = (note.into(), self.mailbox.borrow_mut());
        if !mailbox.notes.contains(&note) {
            mailbox.notes.push(note);
        }
    }

    /// The prompt that was rendered first: that of the question.
    pub fn first_prompt(&self) -> Option<Prefix> {
        self.prompt(0)
    }

    /// The prompt that a completion answers, by [`Completion::prompt`].
    pub(super) fn prompt(&self, number: usize) -> Option<Prefix> {
        self.mailbox.borrow().prompts.get(number).cloned()
    }

    /// Adds a prompt that samples will answer, and returns its number.
    pub(super) fn add_prompt(&self, prefix: &Prefix) -> usize {
        let prompts = &mut self.mailbox.borrow_mut().prompts;
        prompts.push(prefix.clone());
        prompts.len() - 1
    }

    /// Renders messages into a prompt. The first one is that of the question.
    ///
    /// # Errors
    /// Those of [`PromptFormat::render`].
    pub fn render(&self, messages: &[Message]) -> Result<Prefix> {
        let prompt = self.shared.format.render(messages)?;
        prompt.notes.iter().for_each(|note| self.add_note(note));
        let prefix = Prefix::new(prompt);
        let prompts = &mut self.mailbox.borrow_mut().prompts;
        if prompts.is_empty() {
            prompts.push(prefix.clone());
        }
        Ok(prefix)
    }

    /// The prefix with a text after it. Computes nothing: whatever runs next computes only the
    /// tokens that the cache lacks.
    ///
    /// # Errors
    /// A text that the vocabulary cannot encode.
    pub fn extend(&self, prefix: &Prefix, text: &str) -> Result<Prefix> {
        let tokens = self.shared.tokenizer.encode(text)?;
        Ok(prefix.followed_by(tokens))
    }

    /// The prefix with a completion after it, without its end token. If the completion ended within
    /// its reasoning, the closing marker follows.
    pub fn after(&self, prefix: &Prefix, completion: &Completion) -> Prefix {
        let mut ids: Vec<u32> = completion.tokens.iter().map(|token| token.id).collect();
        ids.pop_if(|id| self.is_end_token(*id));
        let open = completion.spans.as_ref().is_some_and(Spans::is_open);
        if let Some(markers) = self.shared.format.markers().filter(|_| open) {
            ids.extend(&markers.close_tokens);
        }
        prefix.followed_by(ids)
    }

    /// The prefix after which an answer comes at once: open reasoning is closed.
    #[must_use]
    pub fn closed(&self, prefix: &Prefix) -> Prefix {
        let closing = prefix.prompt.reasoning.as_ref().and_then(Reasoning::closing);
        prefix.followed_by(closing.unwrap_or_default().iter().copied())
    }

    /// The prefix after which the model answers without thinking, whether the prompt opens the
    /// reasoning or the model would; `None` if the model has no markers around reasoning.
    ///
    /// # Errors
    /// Markers that the vocabulary cannot encode.
    pub(super) fn without_thinking(&self, prefix: &Prefix) -> Result<Option<Prefix>> {
        let Some(Reasoning { markers, open }) = &prefix.prompt.reasoning else { return Ok(None) };
        let opening = if *open { "" } else { markers.open.text.as_str() };
        // As templates write an empty reasoning.
        let text = format!("{opening}\n\n{}\n\n", markers.close.text);
        let tokens = self.shared.tokenizer.encode_with_specials(&text)?;
        Ok(Some(prefix.followed_by(tokens)))
    }

    /// Refuses a model that thinks, for a strategy that puts completions together from parts.
    ///
    /// # Errors
    /// The strategy's name and the remedy.
    pub(super) fn refuse_thinking(&self, strategy: &str) -> Result<()> {
        if self.shared.format.thinks() {
            return Err(Error::usage(format!(
                "{strategy} puts completions together from parts, in which reasoning is not told \
                 from the answer; use --thinking off"
            )));
        }
        Ok(())
    }

    /// Draws samples. Indices name random streams: 4..8 continues what 0..4 began.
    ///
    /// # Errors
    /// The engine's, for this request.
    pub async fn sample(&self, prefix: &Prefix, samples: Range<usize>) -> Result<Generation> {
        self.sample_with(prefix, samples, self.params().clone(), None).await
    }

    /// As [`Self::sample`], with parameters of its own and a callback that may stop samples.
    ///
    /// # Errors
    /// As there.
    pub async fn sample_with(
        &self,
        prefix: &Prefix,
        samples: Range<usize>,
        params: SamplingParams,
        watch: Option<Watch>,
    ) -> Result<Generation> {
        let (prompt, hold) = (prefix.prompt.clone(), Some(prefix.hold.clone()));
        match self.post(Request::Sample { prompt, params, samples, hold }, watch).await? {
            Reply::Samples(generation) => Ok(generation),
            Reply::Score(_) => Err(Error::Backend("samples came back as a score".into())),
        }
    }

    /// The first sample of each prefix with its parameters, drawn together, and what that cost.
    ///
    /// # Errors
    /// The engine's.
    pub async fn sample_each(
        &self,
        prefixes: Vec<(Prefix, SamplingParams)>,
    ) -> Result<(Vec<Completion>, Cost)> {
        let request = |(Prefix { prompt, hold }, params)| Request::Sample {
            prompt,
            params,
            samples: 0..1,
            hold: Some(hold),
        };
        let pending: Vec<Pending> =
            prefixes.into_iter().map(|prefix| self.post(request(prefix), None)).collect();
        let (mut completions, mut cost) = (Vec::with_capacity(pending.len()), Cost::default());
        for reply in pending {
            let Reply::Samples(generation) = reply.await? else {
                return Err(Error::Backend("samples came back as a score".into()));
            };
            cost.add_parallel(&generation.cost);
            completions.extend(generation.completions);
        }
        Ok((completions, cost))
    }

    /// The statistics of each continuation's tokens after the prefix, each scored on its own, with
    /// the `top_logprobs` most probable tokens of each step, and what that cost together. The
    /// prefix is computed once.
    ///
    /// # Errors
    /// The engine's; an empty continuation.
    pub async fn score(
        &self,
        prefix: &Prefix,
        continuations: &[Vec<u32>],
        top_logprobs: usize,
    ) -> Result<(Vec<Vec<Token>>, Cost)> {
        let pairs: Vec<(&Prefix, &[u32])> =
            continuations.iter().map(|tokens| (prefix, tokens.as_slice())).collect();
        let (scored, mut cost) = self.score_each(&pairs, top_logprobs).await?;
        cost.tokens.prompt_tokens = prefix.prompt.tokens.len();
        Ok((scored, cost))
    }

    /// As [`Self::score`], each continuation after a prefix of its own; the cost counts no prompt.
    ///
    /// # Errors
    /// As there.
    pub async fn score_each(
        &self,
        pairs: &[(&Prefix, &[u32])],
        top_logprobs: usize,
    ) -> Result<(Vec<Vec<Token>>, Cost)> {
        self.score_beside(pairs, &Alternatives::MostProbable(top_logprobs)).await
    }

    async fn score_beside(
        &self,
        pairs: &[(&Prefix, &[u32])],
        alternatives: &Alternatives,
    ) -> Result<(Vec<Vec<Token>>, Cost)> {
        let request = |(prefix, continuation): &(&Prefix, &[u32])| Request::Score {
            prefix: prefix.prompt.tokens.clone(),
            continuation: continuation.to_vec(),
            alternatives: alternatives.clone(),
            hold: Some(prefix.hold.clone()),
        };
        let pending: Vec<Pending> =
            pairs.iter().map(|pair| self.post(request(pair), None)).collect();
        let (mut scored, mut cost) = (Vec::with_capacity(pending.len()), Cost::default());
        for reply in pending {
            match reply.await? {
                Reply::Score(ScoredTokens { tokens, cost: own }) => {
                    scored.push(tokens);
                    cost.add_parallel(&own);
                }
                Reply::Samples(_) => {
                    return Err(Error::Backend("a score came back as samples".into()));
                }
            }
        }
        Ok((scored, cost))
    }

    /// Which of a few labels comes after each prefix, and what that cost. A label counts in all its
    /// spellings of one token, which are read from one row of logits; in longer ones only if it has
    /// no short one. Equal prefixes are computed once.
    ///
    /// # Errors
    /// Those of [`Self::score`]; logits that are not numbers.
    pub async fn choose(
        &self,
        prefixes: &[Prefix],
        labels: &[&[&str]],
    ) -> Result<(Vec<LabelProbabilities>, Cost)> {
        let mut spellings: Vec<(Vec<u32>, usize)> = Vec::new();
        for (label, texts) in labels.iter().enumerate() {
            for text in *texts {
                let tokens = self.shared.tokenizer.encode(text)?;
                if !tokens.is_empty() && spellings.iter().all(|(other, _)| *other != tokens) {
                    spellings.push((tokens, label));
                }
            }
        }
        let (short, mut long): (Vec<_>, Vec<_>) =
            spellings.into_iter().partition(|(tokens, _)| tokens.len() == 1);
        long.retain(|(_, label)| short.iter().all(|(_, other)| other != label));
        let ids: Vec<u32> = short.iter().map(|(tokens, _)| tokens[0]).collect();
        let mut distinct: Vec<&Prefix> = Vec::new();
        for prefix in prefixes {
            if distinct.iter().all(|other| other.prompt.tokens != prefix.prompt.tokens) {
                distinct.push(prefix);
            }
        }
        let first = ids.get(..1);
        let pairs: Vec<(&Prefix, &[u32])> =
            distinct.iter().filter_map(|prefix| first.map(|id| (*prefix, id))).collect();
        let long_pairs: Vec<(&Prefix, &[u32])> = distinct
            .iter()
            .flat_map(|prefix| long.iter().map(|(tokens, _)| (*prefix, tokens.as_slice())))
            .collect();
        let (read, mut cost) =
            self.score_beside(&pairs, &Alternatives::Tokens(ids.clone())).await?;
        let (scored, further) = self.score_each(&long_pairs, 0).await?;
        cost.add_parallel(&further);
        cost.tokens.prompt_tokens = distinct.iter().map(|prefix| prefix.prompt.tokens.len()).sum();
        let chosen = |prefix: &Prefix| {
            let at = distinct.iter().position(|p| p.prompt.tokens == prefix.prompt.tokens);
            let at = at.unwrap_or(0);
            let mut masses = vec![0.0; labels.len()];
            let row = read.get(at).and_then(|tokens| tokens.first());
            let others = row.map(|token| token.top_logprobs.as_slice()).unwrap_or_default();
            for ((_, logprob), (_, label)) in others.iter().zip(&short) {
                masses[*label] += logprob.exp();
            }
            let own = scored.iter().skip(at * long.len()).take(long.len());
            for (tokens, (_, label)) in own.zip(&long) {
                masses[*label] += tokens.iter().map(|token| token.stats.logprob).sum::<f64>().exp();
            }
            let mass: f64 = masses.iter().sum();
            if !(mass.is_finite() && mass > 0.0) {
                return Err(Error::Numerical("no label has a probability above 0".into()));
            }
            let probabilities = masses.iter().map(|share| share / mass).collect();
            Ok(LabelProbabilities { probabilities, mass: mass.min(1.0) })
        };
        Ok((prefixes.iter().map(chosen).collect::<Result<_>>()?, cost))
    }

    /// How answers are read, grouped and weighed.
    pub fn reader(&self) -> &Reader {
        &self.shared.reader
    }

    /// What compares answers, where the reader names an encoder.
    pub fn encoder(&self) -> Option<&Encoder> {
        self.shared.encoder.as_ref()
    }

    /// Token ids of a text.
    ///
    /// # Errors
    /// A text that the vocabulary cannot encode.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.shared.tokenizer.encode(text)
    }

    /// The text of tokens, without control tokens.
    pub fn decode(&self, tokens: &[Token]) -> String {
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        self.shared.tokenizer.decode(&ids)
    }

    /// The text of a token; empty for control tokens.
    pub fn token_text(&self, id: u32) -> String {
        self.shared.tokenizer.decode(&[id])
    }

    /// Whether a token ends a sample.
    pub fn is_end_token(&self, id: u32) -> bool {
        self.shared.end_tokens.contains(&id)
    }

    fn post(&self, request: Request, watch: Option<Watch>) -> Pending {
        let mut mailbox = self.mailbox.borrow_mut();
        let ticket = mailbox.next_ticket;
        mailbox.next_ticket += 1;
        mailbox.outgoing.push((ticket, request, watch));
        Pending { ticket, mailbox: Rc::clone(&self.mailbox) }
    }
}

impl Prefix {
    /// A prefix of these tokens, with a cache of its own.
    pub fn new(prompt: Prompt) -> Self {
        Self { prompt, hold: CacheHold::default() }
    }

    /// The prefix with tokens after it; its cache is shared. What comes after them is an answer.
    #[must_use]
    pub fn followed_by(&self, tokens: impl IntoIterator<Item = u32>) -> Self {
        let mut prompt = self.prompt.clone();
        prompt.tokens.extend(tokens);
        if let Some(reasoning) = &mut prompt.reasoning {
            reasoning.open = false;
        }
        Self { prompt, hold: self.hold.clone() }
    }
}

/// A reply that has not come.
struct Pending {
    ticket: u64,
    mailbox: Rc<RefCell<Mailbox>>,
}

impl Future for Pending {
    type Output = Result<Reply>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = self.mailbox.borrow_mut().replies.remove(&self.ticket);
        reply.map_or(Poll::Pending, Poll::Ready)
    }
}

/// Runs tasks on one thread over one engine.
pub struct Executor<'a, T> {
    engine: &'a mut dyn Engine,
    tasks: Vec<Task<'a, T>>,
    /// Who waits for a request: the task's number and its ticket.
    owners: HashMap<RequestId, Owner>,
}

struct Task<'a, T> {
    number: usize,
    session: Session,
    future: Pin<Box<dyn Future<Output = T> + 'a>>,
}

struct Owner {
    task: usize,
    ticket: u64,
    watch: Option<Watch>,
}

impl<'a, T> Executor<'a, T> {
    /// An executor without tasks.
    pub fn new(engine: &'a mut dyn Engine) -> Self {
        Self { engine, tasks: Vec::new(), owners: HashMap::new() }
    }

    /// Tasks that have not finished.
    pub fn in_flight(&self) -> usize {
        self.tasks.len()
    }

    /// Adds a task. `number` identifies it in [`Self::turn`]; `session` is the one it uses.
    pub fn spawn(&mut self, number: usize, session: Session, task: impl Future<Output = T> + 'a) {
        self.tasks.push(Task { number, session, future: Box::pin(task) });
    }

    /// Polls every task, submits what they asked for and steps the engine once; returns the tasks
    /// that finished, in the order in which they were spawned. `on_token` receives every token with
    /// its task's number. After a failed forward pass every task in flight gets that error.
    pub fn turn(&mut self, on_token: &mut dyn FnMut(usize, &TokenEvent<'_>)) -> Vec<(usize, T)> {
        let mut finished = Vec::new();
        let mut ctx = Context::from_waker(Waker::noop());
        self.tasks.retain_mut(|task| match task.future.as_mut().poll(&mut ctx) {
            Poll::Ready(result) => {
                finished.push((task.number, result));
                false
            }
            Poll::Pending => true,
        });
        self.cancel_abandoned();
        for Task { number, session, .. } in &self.tasks {
            let mut mailbox = session.mailbox.borrow_mut();
            for (ticket, request, watch) in std::mem::take(&mut mailbox.outgoing) {
                match self.engine.submit(request) {
                    Ok(id) => drop(self.owners.insert(id, Owner { task: *number, ticket, watch })),
                    Err(error) => drop(mailbox.replies.insert(ticket, Err(error))),
                }
            }
        }
        let owners = &mut self.owners;
        let step = self.engine.step(&mut |event: &TokenEvent<'_>| {
            let Some(owner) = owners.get_mut(&event.request) else { return StepControl::Continue };
            on_token(owner.task, event);
            owner.watch.as_mut().map_or(StepControl::Continue, |watch| watch(event))
        });
        match step {
            Ok(replies) => replies.into_iter().for_each(|(id, reply)| self.deliver(id, reply)),
            Err(error) => {
                let failed: Vec<RequestId> = self.owners.keys().copied().collect();
                for id in failed {
                    self.engine.cancel(id);
                    self.deliver(id, Err(Error::Backend(error.to_string())));
                }
            }
        }
        finished
    }

    fn deliver(&mut self, id: RequestId, reply: Result<Reply>) {
        let Some(owner) = self.owners.remove(&id) else { return };
        if let Some(task) = self.tasks.iter().find(|task| task.number == owner.task) {
            task.session.mailbox.borrow_mut().replies.insert(owner.ticket, reply);
        }
    }

    /// Drops the requests of tasks that finished without waiting for them.
    fn cancel_abandoned(&mut self) {
        let (tasks, engine) = (&self.tasks, &mut self.engine);
        self.owners.retain(|id, owner| {
            let waits = tasks.iter().any(|task| task.number == owner.task);
            if !waits {
                engine.cancel(*id);
            }
            waits
        });
    }
}

impl<T> Drop for Executor<'_, T> {
    fn drop(&mut self) {
        self.tasks.clear();
        self.cancel_abandoned();
    }
}
