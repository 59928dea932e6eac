//! The program of a transaction: bootstraps on blocks, and what joins them.
//!
//! A *base* is a block that exists: part of a ciphertext from outside, a result of a bootstrap, or a combination whose bounds a
//! kernel vouches for. A [`Form`] is a linear combination of bases; it costs nothing. A [`Task`] is a bootstrap, or an operation that
//! the backend evaluates as a whole because it has no kernel.

use std::{collections::BTreeMap, fmt};

use cipherloom_primitives::{FheType, Handle, TypedOperation};

use crate::{
    error::NodeError,
    graph::{NodeId, label},
};

/// A block of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BaseId(pub(crate) u32);

/// A whole ciphertext of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub(crate) u32);

/// `Σ coefficient · base + constant`. Terms are in the order of their bases and have no zero coefficients.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Form {
    pub(crate) terms: Vec<(BaseId, i16)>,
    pub(crate) constant: i16,
}

/// Where a block comes from.
#[derive(Clone, Debug)]
pub enum Base {
    /// A block of a whole ciphertext, counted from the least significant.
    Part {
        /// The ciphertext.
        value: ValueId,
        /// The block's number.
        index: usize,
    },
    /// A result of a bootstrap.
    Looked {
        /// The task that does it.
        task: usize,
        /// Which of its functions.
        function: usize,
    },
    /// A combination whose value stays within bounds that follow from its kernel and not from those of its terms.
    Bounded {
        /// The combination.
        form: Form,
        /// The largest value.
        max: u8,
    },
}

/// Where a whole ciphertext comes from.
#[derive(Clone, Debug)]
pub enum ValueSource {
    /// From outside the transaction.
    Boundary {
        /// Its handle.
        handle: Handle,
        /// Its type.
        ty: FheType,
    },
    /// From the backend's evaluation of an operation.
    Opaque {
        /// The task that does it.
        task: usize,
        /// Its type.
        ty: FheType,
    },
}

/// A whole ciphertext that is used or leaves.
#[derive(Clone, Debug)]
pub enum Whole {
    /// One that exists.
    Value(ValueId),
    /// One that is joined from clean blocks.
    Blocks {
        /// Its type.
        ty: FheType,
        /// Its blocks, least significant first.
        blocks: Vec<Form>,
    },
}

/// A step that takes time.
#[derive(Clone, Debug)]
pub enum Task {
    /// One bootstrap.
    Bootstrap {
        /// What is looked up.
        input: Form,
        /// Each function's outputs for 0, 1, 2 and so on.
        functions: Vec<Vec<u8>>,
    },
    /// One operation that the backend evaluates.
    Opaque {
        /// The operation.
        operation: TypedOperation,
        /// Its encrypted operands.
        inputs: Vec<Whole>,
    },
}

/// What a transaction compiles to.
#[derive(Clone, Debug, Default)]
pub struct Program {
    pub(crate) bases: Vec<Base>,
    pub(crate) values: Vec<ValueSource>,
    pub(crate) tasks: Vec<Task>,
    /// For which node of the graph each task is done first.
    pub(crate) origins: Vec<NodeId>,
    pub(crate) outputs: BTreeMap<Handle, Result<Whole, NodeError>>,
}

impl Program {
    /// Lists the tasks in an order in which they can be done.
    #[must_use]
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Lists for each task the node of the graph that it is done for; of several that share it, the first.
    #[must_use]
    pub fn origins(&self) -> &[NodeId] {
        &self.origins
    }

    /// Lists the bootstraps' and other tasks' results and parts of ciphertexts.
    #[must_use]
    pub fn bases(&self) -> &[Base] {
        &self.bases
    }

    /// Counts the bootstraps; those inside opaque operations are not among them.
    #[must_use]
    pub fn bootstraps(&self) -> usize {
        self.tasks.iter().filter(|task| matches!(task, Task::Bootstrap { .. })).count()
    }

    /// Lists the operations that have no kernel.
    pub fn opaque(&self) -> impl Iterator<Item = &TypedOperation> {
        self.tasks.iter().filter_map(|task| match task {
            Task::Opaque { operation, .. } => Some(operation),
            Task::Bootstrap { .. } => None,
        })
    }

    /// Lists for each task the tasks it needs, in rising order and without repetition.
    #[must_use]
    pub fn dependencies(&self) -> Vec<Vec<usize>> {
        let of_task = |task: &Task| {
            let mut needs = Vec::new();
            match task {
                Task::Bootstrap { input, .. } => self.tasks_of_form(input, &mut needs),
                Task::Opaque { inputs, .. } => inputs.iter().for_each(|input| self.tasks_of_whole(input, &mut needs)),
            }
            needs.sort_unstable();
            needs.dedup();
            needs
        };
        self.tasks.iter().map(of_task).collect()
    }

    fn tasks_of_whole(&self, whole: &Whole, needs: &mut Vec<usize>) {
        match whole {
            Whole::Value(value) => self.tasks_of_value(*value, needs),
            Whole::Blocks { blocks, .. } => blocks.iter().for_each(|form| self.tasks_of_form(form, needs)),
        }
    }

    fn tasks_of_value(&self, value: ValueId, needs: &mut Vec<usize>) {
        if let Some(ValueSource::Opaque { task, .. }) = self.values.get(value.0 as usize) {
            needs.push(*task);
        }
    }

    fn tasks_of_form(&self, form: &Form, needs: &mut Vec<usize>) {
        for (base, _) in &form.terms {
            match self.bases.get(base.0 as usize) {
                Some(Base::Looked { task, .. }) => needs.push(*task),
                Some(Base::Part { value, .. }) => self.tasks_of_value(*value, needs),
                Some(Base::Bounded { form, .. }) => self.tasks_of_form(form, needs),
                None => {}
            }
        }
    }

    /// Returns the length of the longest chain of bootstraps that need each other. Opaque operations count as one.
    #[must_use]
    pub fn depth(&self) -> usize {
        let mut depths: Vec<usize> = Vec::with_capacity(self.tasks.len());
        for needs in self.dependencies() {
            let deepest = needs.iter().filter_map(|task| depths.get(*task)).max();
            depths.push(deepest.map_or(1, |depth| depth + 1));
        }
        depths.into_iter().max().unwrap_or_default()
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (base, coefficient)) in self.terms.iter().enumerate() {
            let sign = match (position, *coefficient < 0) {
                (0, false) => "",
                (0, true) => "-",
                (_, false) => " + ",
                (_, true) => " - ",
            };
            match coefficient.unsigned_abs() {
                1 => write!(f, "{sign}b{}", base.0)?,
                factor => write!(f, "{sign}{factor}·b{}", base.0)?,
            }
        }
        match (self.terms.is_empty(), self.constant) {
            (true, constant) => write!(f, "{constant}"),
            (false, 0) => Ok(()),
            (false, constant) if constant < 0 => write!(f, " - {}", constant.unsigned_abs()),
            (false, constant) => write!(f, " + {constant}"),
        }
    }
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "v{}", value.0),
            Self::Blocks { ty, blocks } => {
                write!(f, "{ty}[")?;
                for (index, form) in blocks.iter().enumerate() {
                    write!(f, "{}{form}", if index == 0 { "" } else { ", " })?;
                }
                write!(f, "]")
            }
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in self.values.iter().enumerate() {
            match value {
                ValueSource::Boundary { handle, ty } => writeln!(f, "v{index}: {ty} = from outside {handle}")?,
                ValueSource::Opaque { task, ty } => writeln!(f, "v{index}: {ty} = result of t{task}")?,
            }
        }
        for (index, base) in self.bases.iter().enumerate() {
            match base {
                Base::Part { value, index: part } => writeln!(f, "b{index} = v{}[{part}]", value.0)?,
                Base::Looked { task, function } => writeln!(f, "b{index} = t{task}.{function}")?,
                Base::Bounded { form, max } => writeln!(f, "b{index} = {form} (at most {max})")?,
            }
        }
        for (index, task) in self.tasks.iter().enumerate() {
            match task {
                Task::Bootstrap { input, functions } => writeln!(f, "t{index}: bootstrap {input} by {functions:?}")?,
                Task::Opaque { operation, inputs } => {
                    write!(f, "t{index}: backend {}", label(operation))?;
                    inputs.iter().try_for_each(|input| write!(f, " {input}"))?;
                    writeln!(f)?;
                }
            }
        }
        for (handle, output) in &self.outputs {
            match output {
                Ok(whole) => writeln!(f, "out {handle} = {whole}")?,
                Err(error) => writeln!(f, "out {handle} cannot be computed: {error}")?,
            }
        }
        Ok(())
    }
}
