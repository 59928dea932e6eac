//! Whose question for decided blocks is answered next.
//!
//! Reading old blocks from the disk is the most that a stranger can have a node do, so only a few answers are made at a time. Whoever comes later waits for a turn:
//! favoured peers before strangers, and strangers in the order in which they asked. A peer has one answer being made and one question waiting at
//! most, so that who asks most gets no more than others; and strangers never take the places that are kept for favoured peers.

use std::collections::{BTreeMap, VecDeque};

use crate::network::PeerId;

/// Most answers that are made at a time.
const PLACES: usize = 4;
/// How many of them strangers can have.
const PLACES_OF_STRANGERS: usize = 2;
/// Most questions that wait: as many as there are peers whose heights are remembered.
const MAX_WAITING: usize = 512;

/// Questions of peers.
#[derive(Debug)]
pub(crate) struct Answers<T> {
    /// Whose answers are being made, and who of them is favoured.
    making: BTreeMap<PeerId, bool>,
    favoured: VecDeque<(PeerId, T)>,
    strangers: VecDeque<(PeerId, T)>,
}

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self {
            making: BTreeMap::new(),
            favoured: VecDeque::new(),
            strangers: VecDeque::new(),
        }
    }
}

impl<T> Answers<T> {
    /// Takes a question; one that cannot wait is dropped, and false is returned.
    pub(crate) fn ask(&mut self, peer: PeerId, is_favoured: bool, question: T) -> bool {
        let waiting = [&self.favoured, &self.strangers];
        let waits = |queue: &&VecDeque<(PeerId, T)>| queue.iter().any(|(asked, _)| *asked == peer);
        let queue_is_full = self.strangers.len() >= MAX_WAITING && !is_favoured;
        if queue_is_full || waiting.iter().any(waits) {
            return false;
        }
        let queue = if is_favoured { &mut self.favoured } else { &mut self.strangers };
        queue.push_back((peer, question));
        true
    }

    /// Takes the question whose turn it is, if there is a place. Those that nobody waits for any more are dropped.
    pub(crate) fn next(&mut self, is_wanted: impl Fn(&T) -> bool) -> Option<(PeerId, T)> {
        for queue in [&mut self.favoured, &mut self.strangers] {
            queue.retain(|(_, question)| is_wanted(question));
        }
        if self.making.len() >= PLACES {
            return None;
        }
        let strangers = self.making.values().filter(|is_favoured| !**is_favoured).count();
        let idle = |queue: &VecDeque<(PeerId, T)>| queue.iter().position(|(peer, _)| !self.making.contains_key(peer));
        let (from_favoured, from_strangers) = (idle(&self.favoured), idle(&self.strangers));
        let (queue, place, is_favoured) = match (from_favoured, from_strangers) {
            (Some(place), _) => (&mut self.favoured, place, true),
            (None, Some(place)) if strangers < PLACES_OF_STRANGERS => (&mut self.strangers, place, false),
            _ => return None,
        };
        let (peer, question) = queue.remove(place)?;
        self.making.insert(peer, is_favoured);
        Some((peer, question))
    }

    /// Gives the place back.
    pub(crate) fn done(&mut self, peer: PeerId) {
        self.making.remove(&peer);
    }

    /// Drops what a peer that is gone waits for. An answer that is being made for it ends by itself.
    pub(crate) fn gone(&mut self, peer: PeerId) {
        for queue in [&mut self.favoured, &mut self.strangers] {
            queue.retain(|(asked, _)| *asked != peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8) -> PeerId {
        PeerId::repeat_byte(number)
    }

    fn next(answers: &mut Answers<u32>) -> Option<(PeerId, u32)> {
        answers.next(|_| true)
    }

    #[test]
    fn strangers_cannot_hold_all_places_and_favoured_peers_come_first() {
        let mut answers = Answers::default();
        for number in 1..=6 {
            assert!(answers.ask(peer(number), false, 0));
        }
        assert_eq!(next(&mut answers), Some((peer(1), 0)));
        assert_eq!(next(&mut answers), Some((peer(2), 0)));
        assert_eq!(next(&mut answers), None, "the other places are kept");
        for number in 7..=9 {
            assert!(answers.ask(peer(number), true, 0));
        }
        assert_eq!(next(&mut answers), Some((peer(7), 0)));
        assert_eq!(next(&mut answers), Some((peer(8), 0)));
        assert_eq!(next(&mut answers), None);
        answers.done(peer(1));
        assert_eq!(next(&mut answers), Some((peer(9), 0)), "before the strangers that asked earlier");
        answers.done(peer(7));
        answers.done(peer(8));
        assert_eq!(next(&mut answers), Some((peer(3), 0)));
    }

    #[test]
    fn who_asks_most_gets_no_more_than_others() {
        let mut answers = Answers::default();
        let (greedy, modest) = ([peer(1), peer(2), peer(3)], peer(9));
        let mut turns = BTreeMap::<PeerId, u32>::new();
        for question in 0..400 {
            // The greedy ask whenever they may, and always before the modest one.
            for asking in greedy {
                answers.ask(asking, false, question);
                answers.ask(asking, false, question);
            }
            answers.ask(modest, false, question);
            while let Some((asked, _)) = next(&mut answers) {
                *turns.entry(asked).or_default() += 1;
            }
            let making: Vec<PeerId> = answers.making.keys().copied().collect();
            for made in making {
                answers.done(made);
            }
        }
        let fewest = turns.values().min().unwrap();
        assert!(turns[&modest] >= 190 && *fewest >= 190, "{turns:?}");
    }

    #[test]
    fn a_peer_has_one_answer_and_one_question_at_most() {
        let mut answers = Answers::default();
        assert!(answers.ask(peer(1), true, 1));
        assert!(!answers.ask(peer(1), true, 2));
        assert!(!answers.ask(peer(1), false, 2), "nor as a stranger");
        assert_eq!(next(&mut answers), Some((peer(1), 1)));
        assert!(answers.ask(peer(1), true, 3));
        assert_eq!(next(&mut answers), None, "its answer is being made");
        answers.done(peer(1));
        assert_eq!(next(&mut answers), Some((peer(1), 3)));
    }

    #[test]
    fn questions_that_nobody_waits_for_take_no_turn() {
        let mut answers = Answers::default();
        for number in 1..=3 {
            answers.ask(peer(number), false, u32::from(number));
        }
        answers.gone(peer(1));
        assert_eq!(answers.next(|question| *question != 2), Some((peer(3), 3)));
        assert_eq!(next(&mut answers), None);
        for number in 0..MAX_WAITING + 1 {
            let id = PeerId::left_padding_from(&(number + 100).to_be_bytes());
            assert_eq!(answers.ask(id, false, 0), number < MAX_WAITING);
        }
        assert!(answers.ask(peer(9), true, 9), "there is always room for favoured peers");
        assert_eq!(next(&mut answers), Some((peer(9), 9)));
    }
}
