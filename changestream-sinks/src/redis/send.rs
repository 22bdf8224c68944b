//! Sending what there is to do to the nodes that do it.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use ::redis::Pipeline;
use changestream_core::{Disposition, HandlerError};
use futures::future::join_all;

use super::{
    connection::Connection,
    error::{self, Redirect},
    layout::Layout,
    nodes::Nodes,
    plan::Part,
};

/// How often what a node has not is sent to another one.
const REDIRECTS: usize = 5;

/// What is left to do of a delivery.
pub(super) struct Work {
    parts: VecDeque<Part>,
    pub(super) failed: Option<HandlerError>,
}

/// What one node does at once.
struct Request {
    node: Connection,
    /// Whether the node is only about to have the keys.
    is_asking: bool,
    /// With the places of the work that they are of.
    parts: Vec<(usize, Part)>,
}

enum Outcome {
    Done(Result<(), HandlerError>),
    Elsewhere(Redirect, Part),
}

impl Nodes {
    /// Does all of it. What one delivery has for several nodes is begun at the next when it is done at those before.
    pub(super) async fn send(
        &self,
        work: &mut [Work],
        patience: Duration,
    ) -> Result<(), HandlerError> {
        let layout = self.layout(patience).await?;
        let mut is_doubtful = false;
        loop {
            let mut requests = Requests::default();
            for (place, work) in work.iter_mut().enumerate() {
                work.begin(&layout, |node, part| requests.add(node, false, place, part));
            }
            if requests.0.is_empty() {
                break;
            }
            let mut redirects = 0..REDIRECTS;
            while !requests.0.is_empty() {
                let is_last = redirects.next().is_none();
                let sending = requests.0.into_values();
                let sending = sending.map(|request| request.send(is_last, patience));
                requests = Requests::default();
                for (place, outcome) in join_all(sending).await.into_iter().flatten() {
                    match outcome {
                        Outcome::Done(Ok(())) => {}
                        Outcome::Done(Err(error)) => {
                            is_doubtful |= may_pass(&error);
                            work[place].fail(error);
                        }
                        Outcome::Elsewhere(redirect, part) => {
                            is_doubtful |= !redirect.is_asking;
                            let node = self.node(redirect.to);
                            requests.add(&node, redirect.is_asking, place, part);
                        }
                    }
                }
            }
        }
        if is_doubtful {
            self.doubt(&layout).await;
        }
        Ok(())
    }

    /// The work of one delivery.
    pub(super) async fn send_one(
        &self,
        parts: VecDeque<Part>,
        patience: Duration,
    ) -> Result<(), HandlerError> {
        let mut work = [Work::new(parts)];
        self.send(&mut work, patience).await?;
        let [Work { failed, .. }] = work;
        failed.map_or(Ok(()), Err)
    }
}

impl Work {
    pub(super) fn new(parts: VecDeque<Part>) -> Self {
        Self {
            parts,
            failed: None,
        }
    }

    /// Nothing is done of it.
    pub(super) fn failed(error: HandlerError) -> Self {
        Self {
            parts: VecDeque::new(),
            failed: Some(error),
        }
    }

    /// Takes what can be done at once: all of one step, and of later ones what the same node does.
    fn begin(&mut self, layout: &Layout, mut send: impl FnMut(&Connection, Part)) {
        let step = self.parts.front().map(|part| part.step);
        let mut begun: Option<&Connection> = None;
        let mut is_one = true;
        while let Some(part) = self.parts.pop_front() {
            let node = match begun {
                Some(node) if part.has_no_key() => Ok(node),
                _ => layout.node(&part),
            };
            let node = match node {
                Ok(node) => node,
                Err(error) => return self.fail(error),
            };
            is_one &= begun.is_none_or(|begun| begun.is(node));
            if !is_one && Some(part.step) != step {
                return self.parts.push_front(part);
            }
            begun = Some(node);
            send(node, part);
        }
    }

    /// Of several errors, one that may pass counts: what can be done is done before the message is given up.
    fn fail(&mut self, error: HandlerError) {
        if may_pass(&error) {
            self.parts.clear();
        }
        let earlier = self.failed.as_ref();
        if earlier.is_none_or(|earlier| may_pass(&error) && !may_pass(earlier)) {
            self.failed = Some(error);
        }
    }
}

fn may_pass(error: &HandlerError) -> bool {
    error.disposition() == Disposition::Retry
}

#[derive(Default)]
struct Requests(HashMap<(Arc<str>, bool), Request>);

impl Requests {
    fn add(&mut self, node: &Connection, is_asking: bool, place: usize, part: Part) {
        let key = (Arc::clone(&node.server().name), is_asking);
        let request = self.0.entry(key).or_insert_with(|| Request {
            node: node.clone(),
            is_asking,
            parts: Vec::new(),
        });
        request.parts.push((place, part));
    }
}

impl Request {
    async fn send(self, is_last: bool, patience: Duration) -> Vec<(usize, Outcome)> {
        let mut pipeline = Pipeline::with_capacity(self.parts.len());
        let mut sent = Vec::with_capacity(self.parts.len());
        for (place, part) in self.parts {
            let begin = pipeline.len();
            let step = part.step;
            for command in part.into_commands(self.is_asking) {
                pipeline.add_command(command);
            }
            sent.push((place, step, begin..pipeline.len()));
        }
        let name = &self.node.server().name;
        let replies = self.node.query(&mut pipeline, patience).await;
        let replies = match replies {
            Ok(replies) => replies,
            Err(error) => {
                let error = error.into_shared();
                let failed = sent.into_iter();
                return failed
                    .map(|(place, ..)| (place, Outcome::Done(Err(error()))))
                    .collect();
            }
        };
        let outcome = |step, range: Range<usize>| {
            let replies = replies.get(range.clone()).unwrap_or_default();
            match error::redirect(replies, self.node.server().host()) {
                Some(redirect) if !is_last => {
                    let commands = pipeline.cmd_iter().skip(range.start).take(range.len());
                    Outcome::Elsewhere(redirect, Part::again(commands, step))
                }
                _ => Outcome::Done(error::of(name, &pipeline, range.start, replies)),
            }
        };
        let outcomes = sent
            .into_iter()
            .map(|(place, step, range)| (place, outcome(step, range)));
        outcomes.collect()
    }
}
