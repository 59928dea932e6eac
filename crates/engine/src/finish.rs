//! The last step of building: only what outputs need, and each bootstrap with as many functions as its table holds.

use std::collections::BTreeMap;

use cipherloom_primitives::{Handle, TypedOperation};

use crate::{
    error::NodeError,
    graph::NodeId,
    program::{Base, BaseId, Form, Program, Task, ValueId, ValueSource, Whole},
};

/// A program in which lookups are not yet divided into bootstraps.
pub(crate) struct Draft {
    pub(crate) bases: Vec<Base>,
    /// For which node each block was made.
    pub(crate) origins: Vec<NodeId>,
    pub(crate) values: Vec<ValueSource>,
    pub(crate) steps: Vec<Step>,
}

pub(crate) enum Step {
    Bootstrap {
        input: Form,
        /// How many functions one bootstrap evaluates.
        capacity: usize,
        functions: Vec<(Vec<u8>, BaseId)>,
    },
    Opaque {
        operation: TypedOperation,
        inputs: Vec<Whole>,
        value: ValueId,
        origin: NodeId,
    },
}

/// Which bases and ciphertexts outputs need.
struct Live {
    bases: Vec<bool>,
    values: Vec<bool>,
}

/// New numbers of bases and ciphertexts.
struct Renumbered {
    bases: Vec<Option<BaseId>>,
    values: Vec<Option<ValueId>>,
}

pub(crate) fn finish(draft: Draft, outputs: BTreeMap<Handle, Result<Whole, NodeError>>) -> Program {
    let live = find_live(&draft, &outputs);
    let mut program = Program::default();
    let new = Renumbered {
        bases: number(&live.bases, BaseId),
        values: number(&live.values, ValueId),
    };
    // Which task computes what: filled in while the steps are laid out.
    let mut looked: BTreeMap<BaseId, (usize, usize)> = BTreeMap::new();
    let mut evaluated: BTreeMap<usize, usize> = BTreeMap::new();
    for (number, step) in draft.steps.into_iter().enumerate() {
        match step {
            Step::Bootstrap {
                input,
                capacity,
                functions,
            } => {
                let needed: Vec<_> = functions.into_iter().filter(|(_, base)| live.base(*base)).collect();
                for group in needed.chunks(capacity.max(1)) {
                    let first = group.first().and_then(|(_, base)| draft.origins.get(base.0 as usize));
                    program.origins.push(first.copied().unwrap_or_default());
                    for (function, (_, base)) in group.iter().enumerate() {
                        looked.insert(*base, (program.tasks.len(), function));
                    }
                    program.tasks.push(Task::Bootstrap {
                        input: new.form(&input),
                        functions: group.iter().map(|(outputs, _)| outputs.clone()).collect(),
                    });
                }
            }
            Step::Opaque {
                operation,
                inputs,
                value,
                origin,
            } => {
                if live.value(value) {
                    program.origins.push(origin);
                    evaluated.insert(number, program.tasks.len());
                    let inputs = inputs.iter().map(|input| new.whole(input)).collect();
                    program.tasks.push(Task::Opaque { operation, inputs });
                }
            }
        }
    }
    for (index, base) in draft.bases.into_iter().enumerate() {
        let Some(Some(_)) = new.bases.get(index) else { continue };
        let old = BaseId(u32::try_from(index).expect("programs have far fewer blocks than 2^32"));
        let base = match (base, looked.get(&old)) {
            (Base::Looked { .. }, Some((task, function))) => Base::Looked {
                task: *task,
                function: *function,
            },
            (Base::Part { value, index }, _) => Base::Part {
                value: new.value(value),
                index,
            },
            (Base::Bounded { form, max }, _) => Base::Bounded {
                form: new.form(&form),
                max,
            },
            (base @ Base::Looked { .. }, None) => base,
        };
        program.bases.push(base);
    }
    for (value, live) in draft.values.into_iter().zip(&live.values) {
        if *live {
            program.values.push(match value {
                ValueSource::Opaque { task, ty } => ValueSource::Opaque {
                    task: evaluated.get(&task).copied().unwrap_or_default(),
                    ty,
                },
                boundary @ ValueSource::Boundary { .. } => boundary,
            });
        }
    }
    program.outputs = outputs
        .into_iter()
        .map(|(handle, output)| (handle, output.map(|whole| new.whole(&whole))))
        .collect();
    program
}

/// Marks what is needed, from the outputs back. Steps come after the steps they need, and bases after the bases they are made of.
fn find_live(draft: &Draft, outputs: &BTreeMap<Handle, Result<Whole, NodeError>>) -> Live {
    let mut live = Live {
        bases: vec![false; draft.bases.len()],
        values: vec![false; draft.values.len()],
    };
    for whole in outputs.values().flatten() {
        live.mark_whole(draft, whole);
    }
    for step in draft.steps.iter().rev() {
        match step {
            Step::Bootstrap { input, functions, .. } => {
                if functions.iter().any(|(_, base)| live.base(*base)) {
                    live.mark_form(draft, input);
                }
            }
            Step::Opaque { inputs, value, .. } => {
                if live.value(*value) {
                    inputs.iter().for_each(|input| live.mark_whole(draft, input));
                }
            }
        }
    }
    live
}

impl Live {
    fn base(&self, id: BaseId) -> bool {
        self.bases.get(id.0 as usize) == Some(&true)
    }

    fn value(&self, id: ValueId) -> bool {
        self.values.get(id.0 as usize) == Some(&true)
    }

    fn mark_whole(&mut self, draft: &Draft, whole: &Whole) {
        match whole {
            Whole::Value(value) => self.mark_value(*value),
            Whole::Blocks { blocks, .. } => blocks.iter().for_each(|form| self.mark_form(draft, form)),
        }
    }

    fn mark_value(&mut self, value: ValueId) {
        if let Some(live) = self.values.get_mut(value.0 as usize) {
            *live = true;
        }
    }

    fn mark_form(&mut self, draft: &Draft, form: &Form) {
        for (base, _) in &form.terms {
            let Some(live) = self.bases.get_mut(base.0 as usize) else {
                continue;
            };
            if std::mem::replace(live, true) {
                continue;
            }
            match draft.bases.get(base.0 as usize) {
                Some(Base::Part { value, .. }) => self.mark_value(*value),
                Some(Base::Bounded { form, .. }) => self.mark_form(draft, form),
                Some(Base::Looked { .. }) | None => {}
            }
        }
    }
}

fn number<Id>(live: &[bool], id: impl Fn(u32) -> Id) -> Vec<Option<Id>> {
    let mut next = 0;
    let new = |live: &bool| {
        live.then(|| {
            next += 1;
            id(next - 1)
        })
    };
    live.iter().map(new).collect()
}

impl Renumbered {
    fn value(&self, old: ValueId) -> ValueId {
        self.values
            .get(old.0 as usize)
            .copied()
            .flatten()
            .expect("a live block is part of a live ciphertext")
    }

    fn form(&self, form: &Form) -> Form {
        let base = |old: BaseId| {
            self.bases
                .get(old.0 as usize)
                .copied()
                .flatten()
                .expect("live forms are of live blocks")
        };
        Form {
            terms: form.terms.iter().map(|(old, coefficient)| (base(*old), *coefficient)).collect(),
            constant: form.constant,
        }
    }

    fn whole(&self, whole: &Whole) -> Whole {
        match whole {
            Whole::Value(value) => Whole::Value(self.value(*value)),
            Whole::Blocks { ty, blocks } => Whole::Blocks {
                ty: *ty,
                blocks: blocks.iter().map(|form| self.form(form)).collect(),
            },
        }
    }
}
