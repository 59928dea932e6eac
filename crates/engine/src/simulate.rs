//! Running a program on plain numbers, with every bound checked: the fastest way to know that a program is right.

use std::collections::{BTreeMap, HashMap};

use cipherloom_fhe::clear;
use cipherloom_primitives::{Handle, U256};

use crate::{
    error::NodeError,
    program::{Base, Form, Program, Task, ValueSource, Whole},
};

/// The numbers that exist so far.
struct Simulation<'a> {
    program: &'a Program,
    inputs: &'a HashMap<Handle, U256>,
    looked: Vec<Vec<u8>>,
    evaluated: HashMap<usize, U256>,
}

impl Program {
    /// Computes the outputs on plaintext.
    ///
    /// # Errors
    /// In the map: why an output cannot be computed. [`NodeError::MissingInput`] is found for the whole program at once here.
    ///
    /// # Panics
    /// If a block leaves its bounds, which is a mistake in a kernel.
    #[must_use]
    pub fn simulate(&self, inputs: &HashMap<Handle, U256>) -> BTreeMap<Handle, Result<U256, NodeError>> {
        let missing = self.values.iter().find_map(|value| match value {
            ValueSource::Boundary { handle, .. } if !inputs.contains_key(handle) => Some(*handle),
            _ => None,
        });
        let mut simulation = Simulation {
            program: self,
            inputs,
            looked: vec![Vec::new(); self.tasks.len()],
            evaluated: HashMap::new(),
        };
        if missing.is_none() {
            for (number, task) in self.tasks.iter().enumerate() {
                simulation.perform(number, task);
            }
        }
        let output = |whole: &Result<Whole, NodeError>| match (whole, missing) {
            (Err(error), _) => Err(error.clone()),
            (Ok(_), Some(handle)) => Err(NodeError::MissingInput(handle)),
            (Ok(whole), None) => Ok(simulation.whole(whole)),
        };
        self.outputs.iter().map(|(handle, whole)| (*handle, output(whole))).collect()
    }
}

impl Simulation<'_> {
    fn perform(&mut self, number: usize, task: &Task) {
        match task {
            Task::Bootstrap { input, functions } => {
                let value = self.form(input);
                let outputs = functions.iter().map(|outputs| {
                    let output = usize::try_from(value).ok().and_then(|value| outputs.get(value));
                    *output.unwrap_or_else(|| panic!("t{number} looks up {value}, beyond its table"))
                });
                let outputs = outputs.collect();
                if let Some(slot) = self.looked.get_mut(number) {
                    *slot = outputs;
                }
            }
            Task::Opaque { operation, inputs } => {
                let inputs: Vec<U256> = inputs.iter().map(|input| self.whole(input)).collect();
                self.evaluated.insert(number, clear::evaluate(operation, &inputs));
            }
        }
    }

    fn form(&self, form: &Form) -> i16 {
        let term = |(base, coefficient): &(crate::program::BaseId, i16)| {
            let base = self
                .program
                .bases
                .get(base.0 as usize)
                .expect("forms are of blocks of their program");
            coefficient * self.base(base)
        };
        form.constant + form.terms.iter().map(term).sum::<i16>()
    }

    fn base(&self, base: &Base) -> i16 {
        match base {
            Base::Part { value, index } => ((self.value(*value) >> (2 * index)).byte(0) & 3).into(),
            Base::Looked { task, function } => {
                let outputs = self.looked.get(*task);
                let output = outputs.and_then(|outputs| outputs.get(*function));
                (*output.expect("tasks come before what needs them")).into()
            }
            Base::Bounded { form, max } => {
                let value = self.form(form);
                assert!((0..=i16::from(*max)).contains(&value), "{form} is {value}, not within 0 to {max}");
                value
            }
        }
    }

    fn value(&self, value: crate::program::ValueId) -> U256 {
        match self.program.values.get(value.0 as usize) {
            Some(ValueSource::Boundary { handle, .. }) => self.inputs.get(handle).copied().unwrap_or_default(),
            Some(ValueSource::Opaque { task, .. }) => *self.evaluated.get(task).expect("tasks come before what needs them"),
            None => unreachable!("values are of their program"),
        }
    }

    fn whole(&self, whole: &Whole) -> U256 {
        match whole {
            Whole::Value(value) => self.value(*value),
            Whole::Blocks { ty, blocks } => blocks.iter().rev().fold(U256::ZERO, |value, block| {
                let digit = self.form(block);
                let largest = i16::from(crate::builder::largest(*ty));
                assert!((0..=largest).contains(&digit), "a block of a {ty} is {digit}");
                (value << 2) | U256::from(digit.unsigned_abs())
            }),
        }
    }
}
