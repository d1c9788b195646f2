//! Unsigned LEB128 and zigzag.

/// The most bytes that a 64-bit value takes.
pub const MAX_LEN: usize = 10;

/// Writes `value` at the start of `out` and returns the bytes taken, or `None` where it does not fit.
#[inline]
pub fn put(out: &mut [u8], mut value: u64) -> Option<usize> {
    let mut n = 0;
    loop {
        let slot = out.get_mut(n)?;
        n += 1;
        if value < 0x80 {
            *slot = value as u8;
            return Some(n);
        }
        *slot = value as u8 | 0x80;
        value >>= 7;
    }
}

/// Appends `value` to `out`.
pub fn push(out: &mut Vec<u8>, value: u64) {
    let mut bytes = [0; MAX_LEN];
    if let Some(n) = put(&mut bytes, value) {
        out.extend_from_slice(&bytes[..n]);
    }
}

/// Takes a value off the front of `input`; `None` where the input ends inside it or it exceeds 64 bits.
#[inline]
pub fn take(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (i, &byte) in input.iter().enumerate().take(MAX_LEN) {
        let bits = u64::from(byte & 0x7f);
        if i == MAX_LEN - 1 && bits > 1 {
            return None;
        }
        value |= bits << (7 * i);
        if byte & 0x80 == 0 {
            *input = &input[i + 1..];
            return Some(value);
        }
    }
    None
}

/// Maps small negative and positive differences to small numbers.
#[inline]
pub fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ ((difference as i64 >> 63) as u64)
}

/// The inverse of [`zigzag`].
#[inline]
pub fn unzigzag(code: u64) -> u64 {
    (code >> 1) ^ (code & 1).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(value: u64) {
            let mut bytes = Vec::new();
            push(&mut bytes, value);
            let mut input = &bytes[..];
            prop_assert_eq!(take(&mut input), Some(value));
            prop_assert!(input.is_empty());
            prop_assert_eq!(take(&mut &bytes[..bytes.len() - 1]), None);
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }

        #[test]
        fn take_is_total(bytes: Vec<u8>) {
            let _ = take(&mut &bytes[..]);
        }
    }

    #[test]
    fn rejects_more_than_64_bits() {
        assert_eq!(take(&mut &[0xff; 10][..]), None);
        assert_eq!(
            take(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01][..]),
            Some(u64::MAX)
        );
    }

    #[test]
    fn small_differences_are_small_codes() {
        assert_eq!(zigzag(0), 0);
        assert_eq!(zigzag(1u64.wrapping_neg()), 1);
        assert_eq!(zigzag(1), 2);
    }
}
