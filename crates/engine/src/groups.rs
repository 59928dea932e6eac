//! Which of some things belong together, found by joining them pair by pair.

/// Things with numbers from 0 on, in groups. Each group is called by its smallest number.
#[derive(Clone, Debug)]
pub struct Groups(Vec<usize>);

impl Groups {
    /// This many things, each on its own.
    #[must_use]
    pub fn new(things: usize) -> Self {
        Self((0..things).collect())
    }

    /// Returns the name of the thing's group; of a thing that there is not, its own number.
    pub fn of(&mut self, thing: usize) -> usize {
        let mut root = thing;
        while let Some(parent) = self.0.get(root).copied().filter(|parent| *parent != root) {
            root = parent;
        }
        // What was walked is shortened, so that long chains stay cheap.
        let mut walked = thing;
        while let Some(parent) = self.0.get_mut(walked).filter(|parent| **parent != root) {
            walked = std::mem::replace(parent, root);
        }
        root
    }

    /// Makes one group of the groups of two things.
    pub fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.of(a), self.of(b));
        if let Some(parent) = self.0.get_mut(a.max(b)) {
            *parent = a.min(b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_things_have_the_smallest_as_their_name() {
        let mut groups = Groups::new(6);
        for (a, b) in [(5, 3), (3, 4), (1, 0), (4, 1)] {
            groups.join(a, b);
        }
        let names: Vec<usize> = (0..6).map(|thing| groups.of(thing)).collect();
        assert_eq!(names, [0, 0, 2, 0, 0, 0]);
        groups.join(2, 9);
        assert_eq!((groups.of(2), groups.of(9)), (2, 9), "there is no thing 9");
    }
}
