//! Answers that several nodes agree on.
//!
//! All nodes are asked at the same time. As soon as enough of them have said the same, that is the answer; who said something else is named in the log.
//! So a node that lies is outvoted, and one that is slow or gone holds nobody up while there are enough others.

use std::{future::Future, time::Duration};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};

use crate::{error::ChainError, host_chain::HostChain, nodes::redacted_url};

/// A node of the chain, with the name it has in logs.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    pub(crate) host: HostChain,
    pub(crate) label: String,
}

/// Nodes of one chain, of which so many must agree.
#[derive(Clone, Debug)]
pub(crate) struct Quorum {
    witnesses: Vec<Witness>,
    needed: usize,
}

impl Quorum {
    /// Collects nodes.
    ///
    /// # Errors
    /// [`ChainError::Quorum`] if there are fewer nodes than must agree, or none must.
    pub(crate) fn new(witnesses: Vec<Witness>, needed: usize) -> Result<Self, ChainError> {
        if needed == 0 || needed > witnesses.len() {
            return Err(ChainError::Quorum {
                needed,
                nodes: witnesses.len(),
            });
        }
        Ok(Self { witnesses, needed })
    }

    pub(crate) fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    pub(crate) const fn needed(&self) -> usize {
        self.needed
    }

    /// Returns what enough nodes answer.
    ///
    /// # Errors
    /// [`ChainError::Disagreement`] if not enough of the answers are the same, or the last error if too few nodes answered at all.
    pub(crate) async fn agree<T, F>(&self, method: &'static str, ask: impl Fn(HostChain) -> F) -> Result<T, ChainError>
    where
        T: PartialEq,
        F: Future<Output = Result<T, ChainError>>,
    {
        let mut asked: FuturesUnordered<_> = self
            .witnesses
            .iter()
            .map(|witness| ask(witness.host.clone()).map(move |answer| (witness, answer)))
            .collect();
        // An answer with those who gave it.
        let mut answers: Vec<(T, Vec<&str>)> = Vec::new();
        let mut failure = None;
        while let Some((witness, result)) = asked.next().await {
            let label = witness.label.as_str();
            let answer = match result {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::debug!(node = label, method, %error, "a node did not answer");
                    failure = Some(error);
                    continue;
                }
            };
            match answers.iter_mut().find(|(same, _)| *same == answer) {
                Some((_, by)) => by.push(label),
                None => answers.push((answer, vec![label])),
            }
            if answers.len() > 1 {
                let groups: Vec<&[&str]> = answers.iter().map(|(_, by)| by.as_slice()).collect();
                tracing::warn!(method, ?groups, "nodes contradict each other");
            }
            if let Some(index) = answers.iter().position(|(_, by)| by.len() >= self.needed) {
                return Ok(answers.swap_remove(index).0);
            }
        }
        match failure {
            // With one opinion too few, what is missing is the others.
            Some(error) if answers.len() < 2 => Err(error),
            _ => Err(ChainError::Disagreement {
                method,
                needed: self.needed,
                answers: answers.iter().map(|(_, by)| by.len()).collect(),
            }),
        }
    }

    /// Returns what the nodes say, of each that says something in time. Once there are enough, stragglers have this long.
    ///
    /// # Errors
    /// The last error if too few answered.
    pub(crate) async fn survey<T, F>(&self, grace: Duration, ask: impl Fn(HostChain) -> F) -> Result<Vec<T>, ChainError>
    where
        F: Future<Output = Result<T, ChainError>>,
    {
        let mut asked: FuturesUnordered<_> = self.witnesses.iter().map(|witness| ask(witness.host.clone())).collect();
        let mut answers = Vec::new();
        let mut failure = ChainError::NoNodes {
            found: 0,
            most: self.witnesses.len(),
        };
        while let Some(result) = asked.next().await {
            match result {
                Ok(answer) => answers.push(answer),
                Err(error) => failure = error,
            }
            if answers.len() >= self.needed {
                break;
            }
        }
        if answers.len() < self.needed {
            return Err(failure);
        }
        let stragglers = async {
            while let Some(result) = asked.next().await {
                answers.extend(result.ok());
            }
        };
        // Whoever is later is left out.
        let _late = tokio::time::timeout(grace, stragglers).await;
        Ok(answers)
    }
}

impl Witness {
    /// Names a node by its URL, without what may be secret in it.
    pub(crate) fn new(host: HostChain, url: &str) -> Self {
        Self {
            host,
            label: redacted_url(url),
        }
    }
}
