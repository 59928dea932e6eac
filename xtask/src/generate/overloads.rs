//! Which functions the library has: every operation for every combination of types.
//!
//! Operations on two values take two integers of any widths; the narrower one is widened first. They also take a
//! plaintext of the same width on either side: on the right as the executor's scalar operand; on the left by turning the
//! operation round, or, for the subtraction, by encrypting the plaintext trivially.

use cipherloom_primitives::{
    FheType, Operation,
    operation::{CAST_TARGETS, OperationSpec, ResultRule, ScalarRule, Shape, TABLE},
};

use super::{
    solidity::{capitalised, external, integer, is_uint, member, scalar},
    words,
};

/// A function of the library.
#[derive(Debug)]
pub(crate) struct Overload {
    /// What it does, a sentence.
    pub(crate) notice: String,
    /// What else callers should know.
    pub(crate) dev: Option<String>,
    /// Its name.
    pub(crate) name: String,
    /// Its parameters: type with data location, and name.
    pub(crate) parameters: Vec<(String, &'static str)>,
    /// The type of its result.
    pub(crate) result: String,
    /// Statements of its body, without indentation.
    pub(crate) body: Vec<String>,
}

/// Lists the functions that come from the table, in the table's order.
pub(crate) fn overloads() -> Vec<Overload> {
    let mut list = Vec::new();
    for spec in &TABLE {
        match spec.shape {
            Shape::Binary(_) if is_shift(spec.operation) => shifts(spec, &mut list),
            Shape::Binary(rule) => binary(spec, rule, &mut list),
            Shape::Unary => unary(spec, &mut list),
            Shape::Input => inputs(spec, &mut list),
            Shape::Cast => casts(spec, &mut list),
            Shape::Trivial => trivial(spec, &mut list),
            Shape::Select => select(spec, &mut list),
            Shape::Random { bounded } => random(spec, bounded, &mut list),
            Shape::List => sums(spec, &mut list),
            Shape::Membership => membership(spec, &mut list),
            Shape::MulDiv => mul_div(spec, &mut list),
        }
    }
    list
}

fn is_shift(operation: Operation) -> bool {
    matches!(operation, Operation::Shl | Operation::Shr | Operation::Rotl | Operation::Rotr)
}

/// The operation that gives the same with the operands exchanged, if there is one.
fn turned_round(operation: Operation) -> Option<Operation> {
    use Operation as Op;
    match operation {
        Op::Add | Op::Mul | Op::BitAnd | Op::BitOr | Op::BitXor | Op::Eq | Op::Ne | Op::Min | Op::Max => Some(operation),
        Op::Ge => Some(Op::Le),
        Op::Gt => Some(Op::Lt),
        Op::Le => Some(Op::Ge),
        Op::Lt => Some(Op::Gt),
        _ => None,
    }
}

fn result(spec: &OperationSpec, ty: FheType) -> FheType {
    match spec.result {
        ResultRule::Bool => FheType::Bool,
        ResultRule::Operand | ResultRule::Requested => ty,
    }
}

/// The statement that returns an expression of type `bytes32` as an encrypted value.
fn wrapped(ty: FheType, expression: &str) -> Vec<String> {
    vec![format!("return {}.wrap({expression});", ty.solidity_name())]
}

fn parameter(ty: FheType, name: &'static str) -> (String, &'static str) {
    (ty.solidity_name().to_owned(), name)
}

fn plain(ty: FheType, name: &'static str) -> (String, &'static str) {
    (ty.plain_solidity_name().to_owned(), name)
}

/// The handle of a parameter, converted to `to` if its type is another one.
fn operand(name: &str, from: FheType, to: FheType) -> String {
    if from == to {
        format!("_handle({name})")
    } else {
        format!("Impl.cast(_handle({name}), FheType.{})", member(to))
    }
}

fn binary(spec: &OperationSpec, rule: ScalarRule, list: &mut Vec<Overload>) {
    if rule == ScalarRule::Either {
        for left in spec.types.iter() {
            for right in spec
                .types
                .iter()
                .filter(|right| left == *right || (is_uint(left) && is_uint(*right)))
            {
                list.push(both_encrypted(spec, left, right));
            }
        }
    }
    for ty in spec.types.iter() {
        list.push(scalar_right(spec, ty));
        if rule == ScalarRule::Either {
            list.push(scalar_left(spec, ty));
        }
    }
}

fn both_encrypted(spec: &OperationSpec, left: FheType, right: FheType) -> Overload {
    let wide = if left.bits() >= right.bits() { left } else { right };
    let (name, result) = (spec.library_name, result(spec, wide));
    let body = if left == wide {
        wrapped(result, &format!("Impl.{name}(_handle(a), {}, false)", operand("b", right, wide)))
    } else {
        // Zeros are made of both operands before the left one is widened, which is the order of the published library.
        let mut body = vec!["bytes32 left = _handle(a);".to_owned(), "bytes32 right = _handle(b);".to_owned()];
        let widened = format!("Impl.cast(left, FheType.{})", member(wide));
        body.extend(wrapped(result, &format!("Impl.{name}({widened}, right, false)")));
        body
    };
    let narrow = if left == wide { "b" } else { "a" };
    Overload {
        notice: words::sentence(spec.operation).to_owned(),
        dev: (left != right).then(|| format!("`{narrow}` is first widened to {}.", wide.solidity_name())),
        name: name.to_owned(),
        parameters: vec![parameter(left, "a"), parameter(right, "b")],
        result: result.solidity_name().to_owned(),
        body,
    }
}

fn scalar_right(spec: &OperationSpec, ty: FheType) -> Overload {
    let name = spec.library_name;
    let call = format!("Impl.{name}(_handle(a), {}, true)", scalar(ty, "b"));
    Overload {
        notice: words::sentence(spec.operation).to_owned(),
        dev: None,
        name: name.to_owned(),
        parameters: vec![parameter(ty, "a"), plain(ty, "b")],
        result: result(spec, ty).solidity_name().to_owned(),
        body: wrapped(result(spec, ty), &call),
    }
}

fn scalar_left(spec: &OperationSpec, ty: FheType) -> Overload {
    let (call, dev) = match turned_round(spec.operation) {
        Some(turned) => {
            let name = turned.spec().library_name;
            let dev = (turned != spec.operation).then(|| format!("Computed as `{name}(b, a)`."));
            (format!("Impl.{name}(_handle(b), {}, true)", scalar(ty, "a")), dev)
        }
        None => (
            format!(
                "Impl.{}(Impl.trivialEncrypt({}, FheType.{}), _handle(b), false)",
                spec.library_name,
                integer(ty, "a"),
                member(ty)
            ),
            Some("`a` is first encrypted trivially.".to_owned()),
        ),
    };
    Overload {
        notice: words::sentence(spec.operation).to_owned(),
        dev,
        name: spec.library_name.to_owned(),
        parameters: vec![plain(ty, "a"), parameter(ty, "b")],
        result: result(spec, ty).solidity_name().to_owned(),
        body: wrapped(result(spec, ty), &call),
    }
}

fn shifts(spec: &OperationSpec, list: &mut Vec<Overload>) {
    let amount = FheType::Uint8;
    for ty in spec.types.iter() {
        let both = format!("Impl.{}(_handle(a), {}, false)", spec.library_name, operand("b", amount, ty));
        list.push(Overload {
            notice: words::sentence(spec.operation).to_owned(),
            dev: (ty != amount).then(|| format!("`b` is first widened to {}.", ty.solidity_name())),
            name: spec.library_name.to_owned(),
            parameters: vec![parameter(ty, "a"), parameter(amount, "b")],
            result: ty.solidity_name().to_owned(),
            body: wrapped(ty, &both),
        });
        let clear = format!("Impl.{}(_handle(a), {}, true)", spec.library_name, scalar(amount, "b"));
        list.push(Overload {
            notice: words::sentence(spec.operation).to_owned(),
            dev: None,
            name: spec.library_name.to_owned(),
            parameters: vec![parameter(ty, "a"), plain(amount, "b")],
            result: ty.solidity_name().to_owned(),
            body: wrapped(ty, &clear),
        });
    }
}

fn unary(spec: &OperationSpec, list: &mut Vec<Overload>) {
    list.extend(spec.types.iter().map(|ty| Overload {
        notice: words::sentence(spec.operation).to_owned(),
        dev: None,
        name: spec.library_name.to_owned(),
        parameters: vec![parameter(ty, "value")],
        result: ty.solidity_name().to_owned(),
        body: wrapped(ty, &format!("Impl.{}(_handle(value))", spec.library_name)),
    }));
}

fn inputs(spec: &OperationSpec, list: &mut Vec<Overload>) {
    list.extend(spec.types.iter().map(|ty| {
        let input = external(ty);
        Overload {
            notice: words::sentence(spec.operation).to_owned(),
            dev: Some(
                "With an empty proof, the handle must be one that the caller of the contract may use already; zero counts as zero."
                    .to_owned(),
            ),
            name: spec.library_name.to_owned(),
            parameters: vec![(input.clone(), "input"), ("bytes memory".to_owned(), "proof")],
            result: ty.solidity_name().to_owned(),
            body: wrapped(ty, &format!("_admit({input}.unwrap(input), proof, FheType.{})", member(ty))),
        }
    }));
}

fn casts(spec: &OperationSpec, list: &mut Vec<Overload>) {
    for to in CAST_TARGETS.iter() {
        list.extend(spec.types.iter().filter(|from| *from != to).map(|from| Overload {
            notice: format!("Converts {} to {}.", from.solidity_name(), to.solidity_name()),
            dev: (from.bits() > to.bits()).then(|| format!("Keeps the low {} bits.", to.bits())),
            name: format!("as{}", capitalised(to.solidity_name())),
            parameters: vec![parameter(from, "value")],
            result: to.solidity_name().to_owned(),
            body: wrapped(to, &operand("value", from, to)),
        }));
    }
    list.extend(spec.types.iter().filter(|from| is_uint(*from)).map(|from| Overload {
        notice: format!(
            "Converts {} to ebool: false for zero, true for everything else.",
            from.solidity_name()
        ),
        dev: Some("Computed as `ne(value, 0)`.".to_owned()),
        name: "asEbool".to_owned(),
        parameters: vec![parameter(from, "value")],
        result: FheType::Bool.solidity_name().to_owned(),
        body: wrapped(FheType::Bool, "Impl.ne(_handle(value), bytes32(0), true)"),
    }));
}

fn trivial(spec: &OperationSpec, list: &mut Vec<Overload>) {
    list.extend(spec.types.iter().map(|ty| Overload {
        notice: words::sentence(spec.operation).to_owned(),
        dev: None,
        name: format!("as{}", capitalised(ty.solidity_name())),
        parameters: vec![plain(ty, "value")],
        result: ty.solidity_name().to_owned(),
        body: wrapped(
            ty,
            &format!("Impl.trivialEncrypt({}, FheType.{})", integer(ty, "value"), member(ty)),
        ),
    }));
}

fn select(spec: &OperationSpec, list: &mut Vec<Overload>) {
    list.extend(spec.types.iter().map(|ty| Overload {
        notice: words::sentence(spec.operation).to_owned(),
        dev: None,
        name: spec.library_name.to_owned(),
        parameters: vec![
            parameter(FheType::Bool, "control"),
            parameter(ty, "ifTrue"),
            parameter(ty, "ifFalse"),
        ],
        result: ty.solidity_name().to_owned(),
        body: wrapped(ty, "Impl.select(_handle(control), _handle(ifTrue), _handle(ifFalse))"),
    }));
}

fn random(spec: &OperationSpec, bounded: bool, list: &mut Vec<Overload>) {
    list.extend(spec.types.iter().map(|ty| {
        let (parameters, call) = if bounded {
            let call = format!("Impl.randBounded({}, FheType.{})", integer(ty, "upperBound"), member(ty));
            (vec![plain(ty, "upperBound")], call)
        } else {
            (Vec::new(), format!("Impl.rand(FheType.{})", member(ty)))
        };
        Overload {
            notice: words::sentence(spec.operation).to_owned(),
            dev: None,
            name: format!("rand{}", capitalised(ty.solidity_name())),
            parameters,
            result: ty.solidity_name().to_owned(),
            body: wrapped(ty, &call),
        }
    }));
}

/// The statements that make a list of handles of a list of encrypted values: in memory both are the same.
fn handles_of_list(ty: FheType) -> Vec<String> {
    vec![
        "bytes32[] memory handles;".to_owned(),
        "assembly (\"memory-safe\") {".to_owned(),
        "    handles := values".to_owned(),
        "}".to_owned(),
        format!("handles = Impl.initialized(handles, FheType.{});", member(ty)),
    ]
}

fn list_limit(spec: &OperationSpec, ty: FheType) -> Option<String> {
    spec.list_limit(ty).map(|limit| format!("The list has at most {limit} values."))
}

fn sums(spec: &OperationSpec, list: &mut Vec<Overload>) {
    list.extend(spec.types.iter().map(|ty| {
        let mut body = handles_of_list(ty);
        body.extend(wrapped(ty, &format!("Impl.sum(handles, FheType.{})", member(ty))));
        Overload {
            notice: words::sentence(spec.operation).to_owned(),
            dev: list_limit(spec, ty),
            name: spec.library_name.to_owned(),
            parameters: vec![(format!("{}[] memory", ty.solidity_name()), "values")],
            result: ty.solidity_name().to_owned(),
            body,
        }
    }));
}

fn membership(spec: &OperationSpec, list: &mut Vec<Overload>) {
    list.extend(spec.types.iter().map(|ty| {
        let mut body = vec!["bytes32 handle = _handle(value);".to_owned()];
        body.extend(handles_of_list(ty));
        body.extend(wrapped(
            FheType::Bool,
            &format!("Impl.isIn(handle, handles, FheType.{})", member(ty)),
        ));
        Overload {
            notice: words::sentence(spec.operation).to_owned(),
            dev: list_limit(spec, ty),
            name: spec.library_name.to_owned(),
            parameters: vec![parameter(ty, "value"), (format!("{}[] memory", ty.solidity_name()), "values")],
            result: FheType::Bool.solidity_name().to_owned(),
            body,
        }
    }));
}

fn mul_div(spec: &OperationSpec, list: &mut Vec<Overload>) {
    for ty in spec.types.iter() {
        for (second, factor, is_scalar) in [
            (parameter(ty, "b"), "_handle(b)".to_owned(), false),
            (plain(ty, "b"), scalar(ty, "b"), true),
        ] {
            let call = format!("Impl.mulDiv(_handle(a), {factor}, {}, {is_scalar})", scalar(ty, "divisor"));
            list.push(Overload {
                notice: words::sentence(spec.operation).to_owned(),
                dev: None,
                name: spec.library_name.to_owned(),
                parameters: vec![parameter(ty, "a"), second, plain(ty, "divisor")],
                result: ty.solidity_name().to_owned(),
                body: wrapped(ty, &call),
            });
        }
    }
}
