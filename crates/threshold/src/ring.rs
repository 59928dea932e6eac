//! The Galois ring GR(2^128, 4): polynomials of degree below 4 over the integers modulo 2^128, modulo X^4 + X + 1.
//!
//! Integers modulo 2^128 alone do not allow secret sharing: interpolation divides by differences of points, and even numbers have no inverse. This
//! ring has sixteen elements with coefficients 0 and 1 whose differences are all units, the *exceptional set*: zero, where secrets lie, and one point
//! for each of up to fifteen parties. Party `i` has the element whose coefficients are the bits of `i`, as in the public protocol.
//!
//! Reducing all coefficients modulo 2 gives the field of sixteen elements; an element is a unit if and only if its residue is not zero.
//!
//! All operations on coefficients are wrapping additions and multiplications, without branches or memory accesses that depend on values, so their time
//! does not depend on secrets on processors with a constant-time multiplier. Only [`Element::inverse`] branches, and it is only used on public points.

use std::ops::{Add, AddAssign, Mul, Neg, Sub, SubAssign};

use zeroize::Zeroize;

/// The degree of the ring over the integers modulo 2^128: how many numbers an element packs.
pub const DEGREE: usize = 4;
/// The length of an element's encoding: four little-endian coefficients of 16 bytes.
pub const ELEMENT_BYTES: usize = 16 * DEGREE;

/// An element of the ring. It has no `Debug`: what it holds is mostly secret.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Element([u128; DEGREE]);

impl Element {
    /// Zero.
    pub const ZERO: Self = Self([0; DEGREE]);
    /// One.
    pub const ONE: Self = Self([1, 0, 0, 0]);

    /// Makes the element with these coefficients, lowest power first.
    #[must_use]
    pub const fn new(coefficients: [u128; DEGREE]) -> Self {
        Self(coefficients)
    }

    /// Makes an integer an element.
    #[must_use]
    pub const fn from_integer(value: u128) -> Self {
        Self([value, 0, 0, 0])
    }

    /// Returns the member of the exceptional set whose coefficients are the four lowest bits of `number`.
    #[must_use]
    pub const fn exceptional(number: u8) -> Self {
        let n = number as u128;
        Self([n & 1, (n >> 1) & 1, (n >> 2) & 1, (n >> 3) & 1])
    }

    /// Returns the coefficients, lowest power first.
    #[must_use]
    pub const fn coefficients(self) -> [u128; DEGREE] {
        self.0
    }

    /// Multiplies with an integer.
    #[must_use]
    pub const fn scale(self, factor: u128) -> Self {
        let [a0, a1, a2, a3] = self.0;
        Self([
            a0.wrapping_mul(factor),
            a1.wrapping_mul(factor),
            a2.wrapping_mul(factor),
            a3.wrapping_mul(factor),
        ])
    }

    /// Multiplies with X, using X^4 = -X - 1.
    #[must_use]
    pub const fn times_x(self) -> Self {
        let [a0, a1, a2, a3] = self.0;
        Self([a3.wrapping_neg(), a0.wrapping_sub(a3), a1, a2])
    }

    /// Returns the residue modulo 2, an element of the field of sixteen, as four bits.
    #[must_use]
    pub const fn residue(self) -> u8 {
        let [a0, a1, a2, a3] = self.0;
        let bits = (a0 & 1) | (a1 & 1) << 1 | (a2 & 1) << 2 | (a3 & 1) << 3;
        bits.to_le_bytes()[0]
    }

    /// Says by which power of two all coefficients are divisible; 128 for zero.
    #[must_use]
    pub const fn valuation(self) -> u32 {
        let [a0, a1, a2, a3] = self.0;
        (a0 | a1 | a2 | a3).trailing_zeros()
    }

    /// Divides all coefficients, as numbers below 2^128, by a power of two and rounds down. The power must be below 128.
    pub(crate) const fn shift_right(self, power: u32) -> Self {
        let [a0, a1, a2, a3] = self.0;
        Self([
            a0.wrapping_shr(power),
            a1.wrapping_shr(power),
            a2.wrapping_shr(power),
            a3.wrapping_shr(power),
        ])
    }

    /// Returns the inverse of a unit, `None` for every other element. Not in constant time.
    #[must_use]
    pub fn inverse(self) -> Option<Self> {
        if self.residue() == 0 {
            return None;
        }
        // In the field of sixteen, a^14 is the inverse; computed in the ring, it is one modulo 2. Each Newton step doubles the power of two.
        let square = self * self;
        let fourth = square * square;
        let mut inverse = fourth * fourth * fourth * square;
        for _ in 0..7 {
            inverse = inverse * (Self::from_integer(2) - self * inverse);
        }
        Some(inverse)
    }

    /// Writes the coefficients, lowest power first, each as 16 little-endian bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; ELEMENT_BYTES] {
        let mut bytes = [0; ELEMENT_BYTES];
        for (chunk, coefficient) in bytes.chunks_exact_mut(16).zip(self.0) {
            chunk.copy_from_slice(&coefficient.to_le_bytes());
        }
        bytes
    }

    /// Reads an element; every string of 64 bytes is one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; ELEMENT_BYTES]) -> Self {
        let mut element = Self::ZERO;
        let (chunks, _) = bytes.as_chunks::<16>();
        for (coefficient, chunk) in element.0.iter_mut().zip(chunks) {
            *coefficient = u128::from_le_bytes(*chunk);
        }
        element
    }
}

impl Add for Element {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (self.0, other.0);
        Self([a0.wrapping_add(b0), a1.wrapping_add(b1), a2.wrapping_add(b2), a3.wrapping_add(b3)])
    }
}

impl Sub for Element {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (self.0, other.0);
        Self([a0.wrapping_sub(b0), a1.wrapping_sub(b1), a2.wrapping_sub(b2), a3.wrapping_sub(b3)])
    }
}

impl Neg for Element {
    type Output = Self;

    fn neg(self) -> Self {
        Self::ZERO - self
    }
}

impl AddAssign for Element {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Element {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Mul for Element {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (self.0, other.0);
        let product = |a: u128, b: u128| a.wrapping_mul(b);
        let c0 = product(a0, b0);
        let c1 = product(a0, b1).wrapping_add(product(a1, b0));
        let c2 = product(a0, b2).wrapping_add(product(a1, b1)).wrapping_add(product(a2, b0));
        let c3 = product(a0, b3)
            .wrapping_add(product(a1, b2))
            .wrapping_add(product(a2, b1))
            .wrapping_add(product(a3, b0));
        let c4 = product(a1, b3).wrapping_add(product(a2, b2)).wrapping_add(product(a3, b1));
        let c5 = product(a2, b3).wrapping_add(product(a3, b2));
        let c6 = product(a3, b3);
        // X^4 = -X - 1, X^5 = -X^2 - X, X^6 = -X^3 - X^2.
        Self([
            c0.wrapping_sub(c4),
            c1.wrapping_sub(c4).wrapping_sub(c5),
            c2.wrapping_sub(c5).wrapping_sub(c6),
            c3.wrapping_sub(c6),
        ])
    }
}

impl std::iter::Sum for Element {
    fn sum<I: Iterator<Item = Self>>(elements: I) -> Self {
        elements.fold(Self::ZERO, Self::add)
    }
}

impl Zeroize for Element {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const X: Element = Element::new([0, 1, 0, 0]);

    #[test]
    fn x_to_the_fourth_is_minus_x_minus_one() {
        assert!(X * X * X * X == -X - Element::ONE);
        assert!(X.times_x() == X * X);
    }

    #[test]
    fn differences_of_the_exceptional_set_are_units() {
        for a in 0..16u8 {
            for b in 0..16u8 {
                let difference = Element::exceptional(a) - Element::exceptional(b);
                match difference.inverse() {
                    Some(inverse) => assert!(a != b && inverse * difference == Element::ONE),
                    None => assert_eq!(a, b),
                }
            }
        }
    }

    #[test]
    fn even_elements_have_no_inverse() {
        for power in 1..128 {
            assert!(Element::new([1 << power, 0, 2, 4]).inverse().is_none());
        }
        assert_eq!(Element::ZERO.valuation(), 128);
        assert_eq!(Element::new([8, 0, 1 << 100, 4]).valuation(), 2);
    }

    proptest! {
        #[test]
        fn it_is_a_commutative_ring(a: [u128; 4], b: [u128; 4], c: [u128; 4], scalar: u128) {
            let (a, b, c) = (Element::new(a), Element::new(b), Element::new(c));
            prop_assert!(a * b == b * a);
            prop_assert!((a * b) * c == a * (b * c));
            prop_assert!(a * (b + c) == a * b + a * c);
            prop_assert!(a - b == a + -b);
            prop_assert!(a * Element::ONE == a && a + Element::ZERO == a);
            prop_assert!(a.scale(scalar) == a * Element::from_integer(scalar));
            prop_assert!(a.times_x() == a * X);
            prop_assert!(Element::from_bytes(&a.to_bytes()) == a);
        }

        #[test]
        fn exactly_the_elements_with_a_residue_are_units(a: [u128; 4]) {
            let a = Element::new(a);
            match a.inverse() {
                Some(inverse) => prop_assert!(a.residue() != 0 && a * inverse == Element::ONE),
                None => prop_assert!(a.residue() == 0),
            }
        }
    }
}
