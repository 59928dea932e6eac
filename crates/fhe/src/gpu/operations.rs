//! The operations that are worth the way to the GPU and back: those on secret integers.

use cipherloom_primitives::{FheType, Operand, Operation, TypedOperation, U256};
use tfhe::integer::{
    BooleanBlock, RadixCiphertext,
    gpu::ciphertext::{CudaIntegerRadixCiphertext, CudaUnsignedRadixCiphertext, boolean_value::CudaBooleanBlock},
};

use super::Gpu;
use crate::{
    ciphertext::{Ciphertext, Value},
    cpu::{known_value, tfhe_scalar},
};

/// Evaluates an operation whose shape and input types were checked, if it is one for the GPU. Operations on ciphertexts of public values are not.
pub(super) fn evaluate(gpu: &Gpu, operation: &TypedOperation, inputs: &[&Ciphertext]) -> Option<Value> {
    if inputs.iter().any(|input| known_value(input).is_some()) {
        return None;
    }
    match (operation, inputs) {
        (
            TypedOperation::Binary {
                operation,
                ty,
                rhs: Operand::Encrypted,
            },
            [left, right],
        ) => gpu.encrypted(*operation, *ty, radix(left)?, radix(right)?),
        (
            TypedOperation::Binary {
                operation,
                ty,
                rhs: Operand::Scalar(scalar),
            },
            [left],
        ) => gpu.scalar(*operation, *ty, radix(left)?, *scalar),
        (TypedOperation::Neg { .. }, [value]) => {
            let value = gpu.upload(radix(value)?);
            Some(gpu.integer(&gpu.key.neg(&value, &gpu.streams)))
        }
        (TypedOperation::IfThenElse { .. }, [condition, if_true, if_false]) => {
            let (if_true, if_false) = (gpu.upload(radix(if_true)?), gpu.upload(radix(if_false)?));
            let condition = CudaBooleanBlock::from_boolean_block(boolean(condition)?, &gpu.streams);
            Some(gpu.integer(&gpu.key.if_then_else(&condition, &if_true, &if_false, &gpu.streams)))
        }
        (TypedOperation::Sum { .. }, numbers) => {
            let numbers = gpu.upload_all(numbers)?;
            gpu.key.sum_ciphertexts(numbers, &gpu.streams).map(|sum| gpu.integer(&sum))
        }
        (TypedOperation::IsIn { .. }, [value, list @ ..]) => {
            let (value, list) = (gpu.upload(radix(value)?), gpu.upload_all(list)?);
            let equal = |element| gpu.key.eq(&value, element, &gpu.streams);
            let any = list
                .iter()
                .map(equal)
                .reduce(|any, next| gpu.key.boolean_bitor(&any, &next, &gpu.streams));
            any.map(|any| gpu.boolean(&any))
        }
        (
            TypedOperation::MulDiv {
                factor: Operand::Encrypted,
                divisor,
                ..
            },
            [left, right],
        ) => {
            let (left, right) = (gpu.doubled(radix(left)?), gpu.doubled(radix(right)?));
            Some(gpu.divided(&gpu.key.mul(&left, &right, &gpu.streams), *divisor))
        }
        (
            TypedOperation::MulDiv {
                factor: Operand::Scalar(factor),
                divisor,
                ..
            },
            [left],
        ) => {
            let product = gpu.key.scalar_mul(&gpu.doubled(radix(left)?), tfhe_scalar(*factor), &gpu.streams);
            Some(gpu.divided(&product, *divisor))
        }
        _ => None,
    }
}

impl Gpu {
    fn encrypted(&self, operation: Operation, ty: FheType, left: &RadixCiphertext, right: &RadixCiphertext) -> Option<Value> {
        let (key, streams) = (&self.key, &self.streams);
        let (left, right) = (&self.upload(left), &self.upload(right));
        Some(match operation {
            Operation::Add => self.integer(&key.add(left, right, streams)),
            Operation::Sub => self.integer(&key.sub(left, right, streams)),
            Operation::Mul => self.integer(&key.mul(left, right, streams)),
            Operation::BitAnd => self.integer(&key.bitand(left, right, streams)),
            Operation::BitOr => self.integer(&key.bitor(left, right, streams)),
            Operation::BitXor => self.integer(&key.bitxor(left, right, streams)),
            Operation::Shl => self.integer(&key.left_shift(left, &self.reduced(ty, right), streams)),
            Operation::Shr => self.integer(&key.right_shift(left, &self.reduced(ty, right), streams)),
            Operation::Rotl => self.integer(&key.rotate_left(left, &self.reduced(ty, right), streams)),
            Operation::Rotr => self.integer(&key.rotate_right(left, &self.reduced(ty, right), streams)),
            Operation::Min => self.integer(&key.min(left, right, streams)),
            Operation::Max => self.integer(&key.max(left, right, streams)),
            Operation::Eq => self.boolean(&key.eq(left, right, streams)),
            Operation::Ne => self.boolean(&key.ne(left, right, streams)),
            Operation::Ge => self.boolean(&key.ge(left, right, streams)),
            Operation::Gt => self.boolean(&key.gt(left, right, streams)),
            Operation::Le => self.boolean(&key.le(left, right, streams)),
            Operation::Lt => self.boolean(&key.lt(left, right, streams)),
            _ => return None,
        })
    }

    fn scalar(&self, operation: Operation, ty: FheType, left: &RadixCiphertext, right: U256) -> Option<Value> {
        let (key, streams) = (&self.key, &self.streams);
        let left = &self.upload(left);
        let scalar = tfhe_scalar(right);
        // Amounts count modulo the width, which is at most 256.
        let amount: u64 = (right % U256::from(ty.bits())).to();
        Some(match operation {
            Operation::Add => self.integer(&key.scalar_add(left, scalar, streams)),
            // Two's complement: the same as adding the negated scalar.
            Operation::Sub => self.integer(&key.scalar_add(left, tfhe_scalar(ty.truncate(right.wrapping_neg())), streams)),
            Operation::Mul => self.integer(&key.scalar_mul(left, scalar, streams)),
            Operation::Div => self.integer(&key.scalar_div(left, scalar, streams)),
            Operation::Rem => self.integer(&key.scalar_rem(left, scalar, streams)),
            Operation::BitAnd => self.integer(&key.scalar_bitand(left, scalar, streams)),
            Operation::BitOr => self.integer(&key.scalar_bitor(left, scalar, streams)),
            Operation::BitXor => self.integer(&key.scalar_bitxor(left, scalar, streams)),
            Operation::Shl => self.integer(&key.scalar_left_shift(left, amount, streams)),
            Operation::Shr => self.integer(&key.scalar_right_shift(left, amount, streams)),
            Operation::Rotl => self.integer(&key.scalar_rotate_left(left, amount, streams)),
            Operation::Rotr => self.integer(&key.scalar_rotate_right(left, amount, streams)),
            Operation::Min => self.integer(&key.scalar_min(left, scalar, streams)),
            Operation::Max => self.integer(&key.scalar_max(left, scalar, streams)),
            Operation::Eq => self.boolean(&key.scalar_eq(left, scalar, streams)),
            Operation::Ne => self.boolean(&key.scalar_ne(left, scalar, streams)),
            Operation::Ge => self.boolean(&key.scalar_ge(left, scalar, streams)),
            Operation::Gt => self.boolean(&key.scalar_gt(left, scalar, streams)),
            Operation::Le => self.boolean(&key.scalar_le(left, scalar, streams)),
            Operation::Lt => self.boolean(&key.scalar_lt(left, scalar, streams)),
            _ => return None,
        })
    }

    /// Reduces the amount of a shift modulo the width, a power of two.
    fn reduced(&self, ty: FheType, amount: &CudaUnsignedRadixCiphertext) -> CudaUnsignedRadixCiphertext {
        self.key.scalar_bitand(amount, u64::from(ty.bits() - 1), &self.streams)
    }

    /// Uploads an integer with as many zero blocks again.
    fn doubled(&self, value: &RadixCiphertext) -> CudaUnsignedRadixCiphertext {
        let value = self.upload(value);
        let blocks = value.as_ref().info.blocks.len();
        self.key.extend_radix_with_trivial_zero_blocks_msb(&value, blocks, &self.streams)
    }

    /// Divides a product of double width and drops its upper half.
    fn divided(&self, product: &CudaUnsignedRadixCiphertext, divisor: U256) -> Value {
        let quotient = self.key.scalar_div(product, tfhe_scalar(divisor), &self.streams);
        let half = quotient.as_ref().info.blocks.len() / 2;
        self.integer(&self.key.trim_radix_blocks_msb(&quotient, half, &self.streams))
    }

    fn upload(&self, value: &RadixCiphertext) -> CudaUnsignedRadixCiphertext {
        CudaUnsignedRadixCiphertext::from_radix_ciphertext(value, &self.streams)
    }

    fn upload_all(&self, values: &[&Ciphertext]) -> Option<Vec<CudaUnsignedRadixCiphertext>> {
        values.iter().map(|value| radix(value).map(|value| self.upload(value))).collect()
    }

    fn integer(&self, value: &CudaUnsignedRadixCiphertext) -> Value {
        Value::Radix(value.to_radix_ciphertext(&self.streams))
    }

    fn boolean(&self, value: &CudaBooleanBlock) -> Value {
        Value::Bool(value.to_boolean_block(&self.streams))
    }
}

fn radix(ciphertext: &Ciphertext) -> Option<&RadixCiphertext> {
    match &ciphertext.value {
        Value::Radix(radix) => Some(radix),
        Value::Clear(_) | Value::Bool(_) => None,
    }
}

fn boolean(ciphertext: &Ciphertext) -> Option<&BooleanBlock> {
    match &ciphertext.value {
        Value::Bool(bit) => Some(bit),
        Value::Clear(_) | Value::Radix(_) => None,
    }
}
