//! Shamir's sharing of 32 bytes, byte by byte, over the field of 256 elements (polynomials modulo x^8 + x^4 + x^3 + x + 1).
//!
//! Arithmetic is on single bytes without tables or branches on secrets. Pieces are points of polynomials of degree `needed - 1`; fewer say nothing. What is combined from wrong pieces is wrong: the
//! caller checks pieces before, and the outcome after.

use zeroize::Zeroizing;

use crate::{CeremonyError, digest::random};

/// A piece: its number, which is the point, and its value.
pub(crate) type Point = (u8, Zeroizing<[u8; 32]>);

/// Splits a secret into pieces numbered from 1.
pub(crate) fn split(secret: &[u8; 32], needed: u8, pieces: u8) -> Result<Vec<Point>, CeremonyError> {
    if needed == 0 || needed > pieces {
        return Err(CeremonyError::Pieces(format!(
            "{needed} of {pieces} pieces cannot be needed: choose from 1 to {pieces}"
        )));
    }
    let mut coefficients: Vec<Zeroizing<[u8; 32]>> = Vec::with_capacity(needed.into());
    for _ in 1..needed {
        coefficients.push(Zeroizing::new(random()?));
    }
    Ok((1..=pieces)
        .map(|point| {
            let mut value = Zeroizing::new([0; 32]);
            // Horner's rule, the highest coefficient first, the secret last.
            for coefficient in coefficients.iter().map(|coefficient| &**coefficient).chain(std::iter::once(secret)) {
                for (byte, add) in value.iter_mut().zip(coefficient) {
                    *byte = multiply(*byte, point) ^ add;
                }
            }
            (point, value)
        })
        .collect())
}

/// Puts a secret together: the value at zero of the polynomials through these points.
pub(crate) fn combine(points: &[Point]) -> Result<Zeroizing<[u8; 32]>, CeremonyError> {
    let mut secret = Zeroizing::new([0; 32]);
    for (index, (point, value)) in points.iter().enumerate() {
        let mut factor = 1;
        for (other, _) in points.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, point)| point) {
            if other == point || *other == 0 {
                return Err(CeremonyError::Pieces("a piece is there twice, or has no number".into()));
            }
            factor = multiply(factor, multiply(*other, invert(*other ^ *point)));
        }
        for (byte, part) in secret.iter_mut().zip(value.iter()) {
            *byte ^= multiply(*part, factor);
        }
    }
    Ok(secret)
}

/// Multiplies by shifting and adding; which bits are set decides masks, not branches.
const fn multiply(left: u8, right: u8) -> u8 {
    let mut product = 0;
    let mut shifted = left;
    let mut bit = 0;
    while bit < 8 {
        product ^= shifted & ((right >> bit) & 1).wrapping_neg();
        shifted = (shifted << 1) ^ (0x1b & (shifted >> 7).wrapping_neg());
        bit += 1;
    }
    product
}

/// The inverse is the power 254; of zero it is zero.
const fn invert(value: u8) -> u8 {
    let mut power = value;
    let mut result = 1;
    let mut bit = 1;
    while bit < 8 {
        power = multiply(power, power);
        result = multiply(result, power);
        bit += 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_a_field() {
        // An example of FIPS 197, section 4.2.
        assert_eq!(multiply(0x57, 0x83), 0xc1);
        for value in 1..=255 {
            assert_eq!(multiply(value, invert(value)), 1, "{value}");
        }
    }

    #[test]
    fn enough_pieces_give_the_secret_whichever_they_are() {
        let secret: [u8; 32] = random().unwrap();
        for (needed, pieces) in [(1, 1), (1, 3), (2, 3), (3, 5), (5, 5), (3, 255)] {
            let points = split(&secret, needed, pieces).unwrap();
            let take = usize::from(needed);
            let last: Vec<Point> = points.iter().rev().take(take).cloned().collect();
            let first: Vec<Point> = points.iter().take(take).cloned().collect();
            assert_eq!(*combine(&first).unwrap(), secret, "{needed} of {pieces}");
            assert_eq!(*combine(&last).unwrap(), secret, "{needed} of {pieces}");
            if needed > 1 {
                assert_ne!(*combine(&first[1..]).unwrap(), secret, "{needed} of {pieces}");
            }
        }
    }

    #[test]
    fn impossible_numbers_and_repeated_pieces_are_refused() {
        assert!(split(&[1; 32], 0, 3).is_err());
        assert!(split(&[1; 32], 4, 3).is_err());
        let points = split(&[1; 32], 2, 3).unwrap();
        assert!(combine(&[points[0].clone(), points[0].clone()]).is_err());
    }
}
