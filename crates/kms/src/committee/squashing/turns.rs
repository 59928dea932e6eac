//! Values that wait, in turns: each requester has one after the other, whoever waits with how many.

use std::collections::VecDeque;

/// What waits, by who asked for it.
pub(super) struct Turns<A, T> {
    /// Those who wait, the next one first; nobody is here without something.
    line: VecDeque<(A, VecDeque<T>)>,
    len: usize,
}

impl<A, T> Default for Turns<A, T> {
    fn default() -> Self {
        Self {
            line: VecDeque::new(),
            len: 0,
        }
    }
}

impl<A: PartialEq, T> Turns<A, T> {
    /// Counts what waits.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Counts what one of them waits for.
    pub(super) fn of(&self, asker: &A) -> usize {
        let found = self.line.iter().find(|(other, _)| other == asker);
        found.map_or(0, |(_, waiting)| waiting.len())
    }

    pub(super) fn push(&mut self, asker: A, value: T) {
        self.len += 1;
        match self.line.iter_mut().find(|(other, _)| *other == asker) {
            Some((_, waiting)) => waiting.push_back(value),
            None => self.line.push_back((asker, VecDeque::from([value]))),
        }
    }

    /// Takes at most so many: one of each, and again.
    pub(super) fn take(&mut self, most: usize) -> Vec<T> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some((asker, mut waiting)) = self.line.pop_front()
        {
            taken.extend(waiting.pop_front());
            if !waiting.is_empty() {
                self.line.push_back((asker, waiting));
            }
        }
        self.len = self.len.saturating_sub(taken.len());
        taken
    }

    /// Takes everything.
    pub(super) fn drain(&mut self) -> Vec<T> {
        self.take(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_turn_however_many_another_waits_for() {
        let mut turns = Turns::default();
        for value in 0..5 {
            turns.push('a', value);
        }
        turns.push('b', 10);
        turns.push('c', 20);
        turns.push('b', 11);
        assert_eq!((turns.len(), turns.of(&'a'), turns.of(&'b'), turns.of(&'d')), (8, 5, 2, 0));
        assert_eq!(turns.take(4), [0, 10, 20, 1]);
        assert_eq!(turns.take(2), [11, 2]);
        assert_eq!(turns.len(), 2);
        assert_eq!(turns.drain(), [3, 4]);
        assert_eq!((turns.len(), turns.take(3).len()), (0, 0));
    }
}
