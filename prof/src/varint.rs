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

/// Takes a value off the front of `input`; `None` where the input ends inside it or it exceeds 64 bits. Quick where most
/// values are of one byte.
#[inline]
pub fn take(input: &mut &[u8]) -> Option<u64> {
    match input.split_first() {
        Some((&byte, rest)) if byte < 0x80 => {
            *input = rest;
            Some(byte.into())
        }
        _ => take_long(input),
    }
}

/// As [`take`]; quick where values are of one byte as often as of two: it has no branch that depends on it.
#[inline]
pub fn take_short(input: &mut &[u8]) -> Option<u64> {
    match input.first_chunk::<2>() {
        Some(&[first, second]) if first & second < 0x80 => {
            let more = u64::from(first >> 7);
            *input = input.get(1 + more as usize..)?;
            Some(u64::from(first & 0x7f) | (u64::from(second) * more) << 7)
        }
        _ => take_long(input),
    }
}

/// As [`take`]; quick where values are of several bytes, or of one as often as of more: up to eight bytes it has no
/// branch that depends on their number.
#[inline]
pub fn take_long(input: &mut &[u8]) -> Option<u64> {
    const CONTINUES: u64 = 0x8080_8080_8080_8080;
    let word = input.first_chunk::<8>().map_or(CONTINUES, |bytes| u64::from_le_bytes(*bytes));
    let ends = !word & CONTINUES;
    if ends == 0 {
        // By value, so that where the input starts need not be kept in memory.
        let (value, rest) = take_bytewise(input)?;
        *input = rest;
        return Some(value);
    }
    // Of the last byte the topmost bit: all below it is the value, in groups of seven bits.
    let topmost = ends & ends.wrapping_neg();
    let bytes = word & (topmost - 1) & !CONTINUES;
    let pairs = (bytes & 0x007f_007f_007f_007f) | (bytes & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = (pairs & 0x0000_3fff_0000_3fff) | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    let value = (fours & 0x0fff_ffff) | (fours & 0x0fff_ffff_0000_0000) >> 4;
    *input = input.get(ends.trailing_zeros() as usize / 8 + 1..)?;
    Some(value)
}

/// As [`take`], byte by byte, with what follows: near the end of the input, and for more than eight bytes.
#[cold]
fn take_bytewise(input: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, &byte) in input.iter().enumerate().take(MAX_LEN) {
        let bits = u64::from(byte & 0x7f);
        if i == MAX_LEN - 1 && bits > 1 {
            return None;
        }
        value |= bits << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, &input[i + 1..]));
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
        fn every_way_takes_the_same(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x80u8..], 0..16)
        ) {
            let taken = |take: fn(&mut &[u8]) -> Option<u64>| {
                let mut input = &bytes[..];
                take(&mut input).map(|value| (value, input.len()))
            };
            let bytewise = take_bytewise(&bytes).map(|(value, rest)| (value, rest.len()));
            prop_assert_eq!(taken(take), bytewise);
            prop_assert_eq!(taken(take_short), bytewise);
            prop_assert_eq!(taken(take_long), bytewise);
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
