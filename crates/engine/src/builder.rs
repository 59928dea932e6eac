//! Building a program: what can be computed without a bootstrap is, and no bootstrap is done twice.
//!
//! Kernels are written for secret blocks. Where a block is public, or a function turns out to be constant or to change nothing, the
//! builder notices; so the scalar forms of all operations fall out of the encrypted ones. Lookups of the same combination
//! share a bootstrap as far as its table has room, which is how a comparison comes for free with a subtraction.
//!
//! Range and noise of every combination are tracked and asserted here, when the program is built: values stay within 0 to 15, and
//! the noise level is at most that of five fresh bootstraps, in the worst case in which all noises are the same.

use std::collections::HashMap;

use cipherloom_fhe::blocks::{MAX_BLOCK_VALUE, MAX_NOISE_LEVEL};
use cipherloom_primitives::{B256, FheType, Handle, TypedOperation};

use crate::{
    error::NodeError,
    graph::NodeId,
    lower::Profile,
    program::{Base, BaseId, Form, Program, ValueId, ValueSource, Whole},
};

/// What is known about a combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) min: i16,
    pub(crate) max: i16,
    pub(crate) noise: u16,
}

#[derive(Debug)]
enum Step {
    Bootstrap {
        input: Form,
        max: u8,
        functions: Vec<(Vec<u8>, BaseId)>,
    },
    Opaque {
        operation: TypedOperation,
        inputs: Vec<Whole>,
        value: ValueId,
        origin: NodeId,
    },
}

#[derive(Debug)]
struct BaseInfo {
    base: Base,
    max: u8,
    noise: u16,
    origin: NodeId,
}

/// A program under construction.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    bases: Vec<BaseInfo>,
    values: Vec<ValueSource>,
    steps: Vec<Step>,
    by_input: HashMap<Form, usize>,
    bounded: HashMap<Form, BaseId>,
    parts: HashMap<(ValueId, usize), BaseId>,
    /// The node that is being lowered: what is built now is built for it.
    origin: NodeId,
    profile: Profile,
}

impl Form {
    /// A public value.
    pub(crate) fn known(value: u8) -> Self {
        Self {
            terms: Vec::new(),
            constant: value.into(),
        }
    }

    /// Returns the value if it is public.
    pub(crate) fn public(&self) -> Option<u8> {
        self.terms
            .is_empty()
            .then(|| u8::try_from(self.constant).expect("public blocks are within 0 to 15"))
    }

    /// `Σ coefficient · form + constant`.
    pub(crate) fn sum(terms: &[(i16, &Self)], constant: i16) -> Self {
        let mut merged = std::collections::BTreeMap::<BaseId, i16>::new();
        let mut total = constant;
        for (factor, form) in terms {
            total += factor * form.constant;
            for (base, coefficient) in &form.terms {
                *merged.entry(*base).or_default() += factor * coefficient;
            }
        }
        Self {
            terms: merged.into_iter().filter(|(_, coefficient)| *coefficient != 0).collect(),
            constant: total,
        }
    }
}

impl Builder {
    /// Starts a program whose kernels save this.
    pub(crate) fn new(profile: Profile) -> Self {
        Self {
            profile,
            ..Self::default()
        }
    }

    /// Returns what kernels save.
    pub(crate) const fn profile(&self) -> Profile {
        self.profile
    }

    /// Says for which node of the graph the next steps are.
    pub(crate) fn work_for(&mut self, node: NodeId) {
        self.origin = node;
    }

    fn base(&self, id: BaseId) -> &BaseInfo {
        self.bases.get(id.0 as usize).expect("a base is used with the builder that made it")
    }

    fn push_base(&mut self, base: Base, max: u8, noise: u16) -> BaseId {
        let id = BaseId(u32::try_from(self.bases.len()).expect("programs have far fewer blocks than 2^32"));
        self.bases.push(BaseInfo {
            base,
            max,
            noise,
            origin: self.origin,
        });
        id
    }

    fn push_value(&mut self, value: ValueSource) -> ValueId {
        let id = ValueId(u32::try_from(self.values.len()).expect("programs have far fewer values than 2^32"));
        self.values.push(value);
        id
    }

    /// Takes a ciphertext from outside.
    pub(crate) fn boundary(&mut self, handle: Handle, ty: FheType) -> ValueId {
        self.push_value(ValueSource::Boundary { handle, ty })
    }

    /// Has the backend evaluate an operation.
    pub(crate) fn opaque(&mut self, operation: TypedOperation, inputs: Vec<Whole>) -> ValueId {
        let ty = operation.result_type();
        let task = self.steps.len();
        let value = self.push_value(ValueSource::Opaque { task, ty });
        self.steps.push(Step::Opaque {
            operation,
            inputs,
            value,
            origin: self.origin,
        });
        value
    }

    /// Takes a whole ciphertext apart.
    pub(crate) fn split(&mut self, value: ValueId, ty: FheType) -> Vec<Form> {
        let max = largest(ty);
        let part = |index| {
            let base = match self.parts.get(&(value, index)) {
                Some(base) => *base,
                None => {
                    let base = self.push_base(Base::Part { value, index }, max, 1);
                    self.parts.insert((value, index), base);
                    base
                }
            };
            single(base)
        };
        (0..block_count(ty)).map(part).collect()
    }

    /// Returns what is known about a combination.
    pub(crate) fn bounds(&self, form: &Form) -> Bounds {
        let mut bounds = Bounds {
            min: form.constant,
            max: form.constant,
            noise: 0,
        };
        for (base, coefficient) in &form.terms {
            let info = self.base(*base);
            let reach = coefficient * i16::from(info.max);
            bounds.min += reach.min(0);
            bounds.max += reach.max(0);
            bounds.noise += coefficient.unsigned_abs() * info.noise;
        }
        bounds
    }

    /// Says whether a combination can be looked up.
    pub(crate) fn fits(&self, form: &Form) -> bool {
        let bounds = self.bounds(form);
        bounds.min >= 0 && bounds.max <= MAX_BLOCK_VALUE.into() && bounds.noise <= MAX_NOISE_LEVEL.into()
    }

    /// Says whether a block can leave the program or be given to any kernel.
    pub(crate) fn is_clean(&self, form: &Form) -> bool {
        self.bounds(form).noise <= 1
    }

    /// Returns the largest value.
    pub(crate) fn max(&self, form: &Form) -> u8 {
        u8::try_from(self.bounds(form).max).unwrap_or(u8::MAX)
    }

    /// Adds up blocks, cleaning the noisiest until the sum can be looked up. Ranges are the kernel's affair.
    pub(crate) fn combine(&mut self, terms: &[(i16, &Form)], constant: i16) -> Form {
        let mut terms: Vec<(i16, Form)> = terms.iter().map(|(factor, form)| (*factor, (*form).clone())).collect();
        loop {
            let sum = Form::sum(&terms.iter().map(|(factor, form)| (*factor, form)).collect::<Vec<_>>(), constant);
            if self.bounds(&sum).noise <= MAX_NOISE_LEVEL.into() {
                return sum;
            }
            let noise = |(factor, form): &(i16, Form)| factor.unsigned_abs() * self.bounds(form).noise.saturating_sub(1);
            let noisiest = (0..terms.len()).max_by_key(|index| (terms.get(*index).map(noise), std::cmp::Reverse(*index)));
            let (_, form) = noisiest
                .and_then(|index| terms.get_mut(index))
                .expect("a sum without terms has no noise");
            assert!(
                !self.is_clean(form),
                "a kernel adds up more clean blocks than one lookup can take: {sum}"
            );
            *form = self.clean(form);
        }
    }

    /// Looks a combination up: one bootstrap, or none if the result follows without.
    pub(crate) fn lookup(&mut self, form: &Form, function: impl Fn(u8) -> u8) -> Form {
        if let Some(value) = form.public() {
            return Form::known(function(value));
        }
        assert!(
            self.fits(form),
            "a kernel looks up {form}, whose bounds are {:?}",
            self.bounds(form)
        );
        let max = self.max(form);
        let reachable = self.reachable(form);
        let first = (0..=max).find(|value| (reachable >> value) & 1 == 1).unwrap_or_default();
        // Where nothing can be looked up, the table repeats what stands before, so that the result is known to be small.
        let mut output = function(first);
        let mut outputs = Vec::with_capacity(usize::from(max) + 1);
        let (mut is_constant, mut is_identity) = (true, self.is_clean(form));
        for value in 0..=max {
            if (reachable >> value) & 1 == 1 {
                output = function(value);
                is_constant &= outputs.iter().all(|other| *other == output);
                is_identity &= output == value;
            }
            outputs.push(output);
        }
        if is_constant {
            return Form::known(output);
        }
        if is_identity {
            return form.clone();
        }
        self.request(form, max, outputs)
    }

    /// Returns which values a combination that fits can have, as a set of bits.
    fn reachable(&self, form: &Form) -> u32 {
        let lowest = u32::try_from(self.bounds(form).min).unwrap_or_default();
        let mut values = 1_u32 << lowest;
        for (base, coefficient) in &form.terms {
            // Each term adds its distance from its own smallest value, whatever its sign.
            let step = u32::from(coefficient.unsigned_abs());
            values = (0..=u32::from(self.base(*base).max)).fold(0, |all, count| all | (values << (step * count)));
        }
        values
    }

    fn request(&mut self, form: &Form, max: u8, outputs: Vec<u8>) -> Form {
        let task = match self.by_input.get(form) {
            Some(task) => *task,
            None => {
                self.steps.push(Step::Bootstrap {
                    input: form.clone(),
                    max,
                    functions: Vec::new(),
                });
                self.by_input.insert(form.clone(), self.steps.len() - 1);
                self.steps.len() - 1
            }
        };
        let largest = outputs.iter().copied().max().unwrap_or_default();
        let next = BaseId(u32::try_from(self.bases.len()).expect("programs have far fewer blocks than 2^32"));
        let Some(Step::Bootstrap { functions, .. }) = self.steps.get_mut(task) else {
            unreachable!("inputs of bootstraps lead to bootstraps");
        };
        if let Some((_, base)) = functions.iter().find(|(known, _)| *known == outputs) {
            return single(*base);
        }
        let function = functions.len();
        functions.push((outputs, next));
        single(self.push_base(Base::Looked { task, function }, largest, 1))
    }

    /// Brings a block's noise down to that of one bootstrap.
    pub(crate) fn clean(&mut self, form: &Form) -> Form {
        if self.is_clean(form) {
            form.clone()
        } else {
            self.lookup(form, |value| value)
        }
    }

    /// Vouches that a combination of whatever bounds has a value from 0 to `max`.
    pub(crate) fn bounded(&mut self, form: &Form, max: u8) -> Form {
        let bounds = self.bounds(form);
        if bounds.min >= 0 && bounds.max <= max.into() {
            return form.clone();
        }
        assert!(bounds.noise <= MAX_NOISE_LEVEL.into(), "a kernel makes too noisy a block: {form}");
        if let Some(base) = self.bounded.get(form) {
            return single(*base);
        }
        let base = Base::Bounded { form: form.clone(), max };
        let id = self.push_base(base, max, bounds.noise);
        self.bounded.insert(form.clone(), id);
        single(id)
    }

    /// Makes a whole ciphertext of blocks, which are cleaned if need be.
    pub(crate) fn join(&mut self, ty: FheType, blocks: &[Form]) -> Whole {
        if let Some(value) = self.whole_value(ty, blocks) {
            return Whole::Value(value);
        }
        let blocks = blocks.iter().map(|block| self.clean(block)).collect();
        Whole::Blocks { ty, blocks }
    }

    /// Finds the ciphertext whose blocks, all of them and in their order, these are.
    fn whole_value(&self, ty: FheType, blocks: &[Form]) -> Option<ValueId> {
        let part_of = |index: usize, form: &Form| match (form.terms.as_slice(), form.constant) {
            ([(base, 1)], 0) => match &self.base(*base).base {
                Base::Part { value, index: part } if *part == index => Some(*value),
                _ => None,
            },
            _ => None,
        };
        let first = part_of(0, blocks.first()?)?;
        let (ValueSource::Boundary { ty: source, .. } | ValueSource::Opaque { ty: source, .. }) = self.values.get(first.0 as usize)?;
        let same = *source == ty && blocks.iter().enumerate().all(|(index, form)| part_of(index, form) == Some(first));
        same.then_some(first)
    }

    /// Makes operands of which as much is known as of others, and that are the same where the others are.
    fn operands_like(&mut self, other: &Self, operands: &[&[Form]]) -> Vec<Vec<Form>> {
        let value = self.boundary(Handle::computed(B256::ZERO, 0, FheType::Uint256), FheType::Uint256);
        let mut known: HashMap<Form, Form> = HashMap::new();
        let mut block = |form: &'_ Form| {
            if form.public().is_some() {
                return form.clone();
            }
            let index = known.len();
            let alike = known.entry(form.clone()).or_insert_with(|| {
                let bounds = other.bounds(form);
                single(self.push_base(Base::Part { value, index }, other.max(form), bounds.noise))
            });
            alike.clone()
        };
        operands.iter().map(|operand| operand.iter().map(&mut block).collect()).collect()
    }

    /// Counts the bootstraps that blocks take if they are all that is needed, and have to be clean.
    fn bootstraps_of(mut self, blocks: &[Form]) -> usize {
        let blocks = blocks.iter().map(|block| self.clean(block)).collect();
        let whole = Whole::Blocks {
            ty: FheType::Uint256,
            blocks,
        };
        let handle = Handle::computed(B256::ZERO, 0, FheType::Uint256);
        self.finish(std::collections::BTreeMap::from([(handle, Ok(whole))])).bootstraps()
    }

    /// Drops what no output needs and divides lookups into bootstraps.
    pub(crate) fn finish(self, outputs: std::collections::BTreeMap<Handle, Result<Whole, NodeError>>) -> Program {
        crate::finish::finish(self.parts_of_program(), outputs)
    }

    fn parts_of_program(self) -> crate::finish::Draft {
        crate::finish::Draft {
            origins: self.bases.iter().map(|info| info.origin).collect(),
            bases: self.bases.into_iter().map(|info| info.base).collect(),
            values: self.values,
            steps: self
                .steps
                .into_iter()
                .map(|step| match step {
                    Step::Bootstrap { input, max, functions } => crate::finish::Step::Bootstrap {
                        input,
                        capacity: usize::from((MAX_BLOCK_VALUE + 1) / (max + 1)),
                        functions,
                    },
                    Step::Opaque {
                        operation,
                        inputs,
                        value,
                        origin,
                    } => crate::finish::Step::Opaque {
                        operation,
                        inputs,
                        value,
                        origin,
                    },
                })
                .collect(),
        }
    }
}

/// Builds a kernel in the cheapest of the ways it can be built, the first of them if several are.
///
/// The kernel gets its operands and the number of a way, and gives nothing where there are no more. What each way takes is counted on operands of the
/// same kind and nothing else, so that the choice does not depend on the rest of the program.
pub(crate) fn cheapest(
    builder: &mut Builder,
    operands: &[&[Form]],
    kernel: impl Fn(&mut Builder, &[Vec<Form>], usize) -> Option<Vec<Form>>,
) -> Vec<Form> {
    let bootstraps = |way| {
        let mut draft = Builder::new(builder.profile);
        let alike = draft.operands_like(builder, operands);
        let blocks = kernel(&mut draft, &alike, way)?;
        Some((draft.bootstraps_of(&blocks), way))
    };
    let (_, way) = (0..)
        .map_while(bootstraps)
        .min()
        .expect("every kernel can be built in at least one way");
    let operands: Vec<Vec<Form>> = operands.iter().map(|operand| operand.to_vec()).collect();
    kernel(builder, &operands, way).expect("what was built once can be built again")
}

fn single(base: BaseId) -> Form {
    Form {
        terms: vec![(base, 1)],
        constant: 0,
    }
}

/// Returns how many blocks a ciphertext of this type has.
pub(crate) fn block_count(ty: FheType) -> usize {
    ty.bits().div_ceil(2) as usize
}

/// Returns the largest value of a clean block of this type.
pub(crate) fn largest(ty: FheType) -> u8 {
    if ty == FheType::Bool { 1 } else { 3 }
}
