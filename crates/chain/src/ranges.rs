//! How many blocks to ask for at once, learned from what nodes refuse.
//!
//! Every provider limits ranges in its own way: by blocks, by logs, by bytes, by time; each says so with words and codes of its own, some with the range they
//! would accept. So the length shrinks when a range is refused, to what the words say if they say it and to half otherwise, and grows again when ranges are
//! accepted: at once by half, but beyond a length that was refused only after many accepted ones, since most limits are there to stay.

use alloy::transports::RpcError;

use crate::error::ChainError;

/// After how many accepted ranges a refused length is tried again.
const PATIENCE: u32 = 256;

/// How many logs an answer may have without being a reason to ask for less.
const MANY_LOGS: usize = 5_000;

/// The length of the next range.
#[derive(Clone, Debug)]
pub(crate) struct RangeLength {
    current: u64,
    longest: u64,
    /// The shortest length that was refused, and how many ranges were accepted since.
    refused: Option<(u64, u32)>,
}

impl RangeLength {
    /// Begins with this length, which is never exceeded.
    pub(crate) fn new(longest: u64) -> Self {
        let longest = longest.max(1);
        Self {
            current: longest,
            longest,
            refused: None,
        }
    }

    /// Returns how many blocks to ask for, at least one.
    pub(crate) const fn blocks(&self) -> u64 {
        self.current
    }

    /// Notes that a range of this many blocks was answered with this many logs.
    pub(crate) fn accepted(&mut self, blocks: u64, logs: usize) {
        if logs > MANY_LOGS {
            self.current = (self.current / 2).max(1);
            return;
        }
        if blocks < self.current {
            // Shorter than wanted: it says nothing about longer ones.
            return;
        }
        let ceiling = match &mut self.refused {
            Some((_, accepted)) if *accepted >= PATIENCE => {
                self.refused = None;
                self.longest
            }
            Some((length, accepted)) => {
                *accepted += 1;
                length.saturating_sub(1).max(1)
            }
            None => self.longest,
        };
        let longer = self.current.saturating_add((self.current / 2).max(1));
        self.current = longer.min(ceiling).min(self.longest).max(self.current.min(ceiling));
    }

    /// Notes that a range of this many blocks from `first` on was refused; says whether a shorter one may be accepted.
    pub(crate) fn refused(&mut self, first: u64, blocks: u64, error: &ChainError) -> bool {
        if blocks <= 1 || !may_be_about_size(error) {
            return false;
        }
        let suggested = match error {
            ChainError::Refused { message, .. } => suggestion(message, first, blocks),
            _ => None,
        };
        self.current = suggested.unwrap_or(blocks / 2).clamp(1, blocks - 1);
        // What is refused for its logs or its time says little about the length; a stated limit does.
        let refused = suggested.map_or(blocks, |length| length.saturating_add(1));
        let shortest = self.refused.map_or(refused, |(length, _)| length.min(refused));
        self.refused = Some((shortest.max(2), 0));
        true
    }
}

/// Says whether an error may come from the size of a question or its answer.
fn may_be_about_size(error: &ChainError) -> bool {
    match error {
        ChainError::Refused { code, message, .. } => is_about_size(message) || !(*code == 429 || is_about_frequency(message)),
        // A node that is at work on the answer, or cannot send it.
        ChainError::Timeout { .. } => true,
        ChainError::Transport { source, .. } => match source.as_ref() {
            RpcError::Transport(kind) => kind
                .as_http_error()
                .is_some_and(|error| matches!(error.status, 400 | 408 | 413 | 422 | 500 | 502 | 503 | 504)),
            RpcError::DeserError { .. } => true,
            _ => false,
        },
        _ => false,
    }
}

/// Says whether a node's words are about too many blocks, logs or bytes.
pub(crate) fn is_about_size(message: &str) -> bool {
    let message = message.to_lowercase();
    [
        "block range",
        "blocks range",
        "range of blocks",
        "range is too",
        "range too",
        "range exceed",
        "exceeds the range",
        "exceed maximum",
        "max range",
        "more than",
        "too many results",
        "too many logs",
        "response size",
        "response too",
        "result set",
        "query exceeds",
        "query timeout",
        "query returned",
    ]
    .iter()
    .any(|words| message.contains(words))
        && !is_about_frequency(&message)
}

fn is_about_frequency(message: &str) -> bool {
    let message = message.to_lowercase();
    [
        "too many requests",
        "rate limit",
        "rate-limit",
        "requests per",
        "compute units",
        "capacity",
    ]
    .iter()
    .any(|words| message.contains(words))
}

/// Reads from a node's words how many blocks it would accept.
fn suggestion(message: &str, first: u64, blocks: u64) -> Option<u64> {
    // "… this block range should work: [0x1, 0x2]"
    if let Some((from, to)) = message
        .split_once("[0x")
        .and_then(|(_, rest)| rest.split_once(']')?.0.split_once(','))
    {
        let number = |text: &str| u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok();
        let (from, to) = (number(from)?, number(to)?);
        return (from == first && to >= from)
            .then(|| (to - from).saturating_add(1))
            .filter(|length| *length < blocks);
    }
    let lower = message.to_lowercase();
    if !lower.contains("block") && !lower.contains("range") {
        return None;
    }
    // "exceed maximum block range: 5000", "limited to a 1,000 blocks range", "up to a 2K block range"
    let number = |word: &str| {
        let word = word
            .trim_matches(|letter: char| !letter.is_ascii_alphanumeric())
            .replace([',', '_'], "");
        match word.strip_suffix('k') {
            Some(thousands) => thousands.parse::<u64>().ok()?.checked_mul(1_000),
            None => word.parse().ok(),
        }
    };
    lower
        .split_whitespace()
        .filter_map(number)
        .filter(|length| (1..blocks).contains(length))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(message: &str) -> ChainError {
        ChainError::Refused {
            method: "eth_getLogs",
            code: -32000,
            message: message.to_owned(),
        }
    }

    #[test]
    fn lengths_shrink_to_what_providers_say() {
        for (message, length) in [
            ("Log response size exceeded. this block range should work: [0x64, 0xc7]", 100),
            (
                "query returned more than 10000 results. Try with this block range [0x64, 0x6D].",
                10,
            ),
            ("exceed maximum block range: 1500", 1500),
            ("eth_getLogs is limited to a 1,000 blocks range", 1000),
            ("You can make eth_getLogs requests with up to a 1K block range.", 1000),
            ("block range is too wide", 5000),
            ("something else", 5000),
            ("exceed maximum block range: 50000", 5000),
        ] {
            let mut range = RangeLength::new(10_000);
            assert!(range.refused(100, 10_000, &refusal(message)), "{message}");
            assert_eq!(range.blocks(), length, "{message}");
        }
    }

    #[test]
    fn what_is_not_about_size_does_not_shrink_anything() {
        let mut range = RangeLength::new(10_000);
        for error in [
            refusal("Too many requests, rate limit of 25 requests per second exceeded"),
            ChainError::BlockGone(1),
        ] {
            assert!(!range.refused(0, 10_000, &error), "{error}");
        }
        assert!(!range.refused(0, 1, &refusal("block range too large")));
        assert_eq!(range.blocks(), 10_000);
    }

    #[test]
    fn a_length_that_was_refused_is_tried_again_after_many_others() {
        let mut range = RangeLength::new(1_000);
        assert!(range.refused(0, 1_000, &refusal("maximum block range: 100")));
        for _ in 0..PATIENCE {
            range.accepted(range.blocks(), 10);
            assert_eq!(range.blocks(), 100);
        }
        range.accepted(100, 10);
        assert_eq!(range.blocks(), 150);
    }

    #[test]
    fn lengths_grow_with_few_logs_and_shrink_with_many() {
        let mut range = RangeLength::new(1_000);
        assert!(range.refused(
            0,
            1_000,
            &ChainError::Timeout {
                method: "eth_getLogs",
                limit: std::time::Duration::ZERO
            }
        ));
        assert_eq!(range.blocks(), 500);
        range.accepted(500, 0);
        assert_eq!(range.blocks(), 750);
        // The end of the chain was reached: nothing is learned.
        range.accepted(3, 0);
        assert_eq!(range.blocks(), 750);
        range.accepted(750, MANY_LOGS + 1);
        assert_eq!(range.blocks(), 375);
    }
}
