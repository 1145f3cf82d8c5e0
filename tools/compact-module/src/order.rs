//! The order in which functions compress best.

use std::collections::{HashMap, VecDeque};

/// Bytes that count as one repetition; deflate itself takes 3 and more. 4 and 8 leave 0.5 to 1 % more (2026-11).
const REPETITION_BYTES: usize = 6;

/// How far back repetitions are looked for, in bytes: well within deflate's 32 KiB, and what is near is written shorter.
const WINDOW_BYTES: usize = 8 << 10;

/// Puts similar functions side by side: the next one is always that of which the largest part is among those before it.
/// The answer holds each position in `functions` once, and is the same for the same functions.
pub(crate) fn by_similarity(functions: &[Vec<u8>]) -> Vec<usize> {
    let parts: Vec<Vec<&[u8]>> = functions.iter().map(|function| parts(function)).collect();
    let mut holders: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (function, parts) in parts.iter().enumerate() {
        for part in parts {
            holders.entry(part).or_default().push(function);
        }
    }
    let mut window = Window { bytes: 0, functions: VecDeque::new(), parts: HashMap::new() };
    let mut repeated = vec![0_i32; functions.len()];
    let mut left: Vec<usize> = (0..functions.len()).collect();
    let mut order = Vec::with_capacity(functions.len());
    // A function's first bytes are always new: without them in the sum the smallest would all come first.
    let likeness = |function: usize, repeated: &[i32]| {
        f64::from(repeated[function]) / (parts[function].len() + 8) as f64
    };
    while !left.is_empty() {
        let mut best = 0;
        for at in 1..left.len() {
            if likeness(left[at], &repeated) > likeness(left[best], &repeated) {
                best = at;
            }
        }
        let next = left.remove(best);
        order.push(next);
        let mut change = |part: &[u8], by: i32| {
            holders[part].iter().for_each(|function| repeated[*function] += by);
        };
        window.functions.push_back(next);
        window.bytes += functions[next].len();
        for part in &parts[next] {
            let count = window.parts.entry(part).or_insert(0_usize);
            *count += 1;
            if *count == 1 {
                change(part, 1);
            }
        }
        while window.bytes > WINDOW_BYTES
            && window.functions.len() > 1
            && let Some(first) = window.functions.pop_front()
        {
            window.bytes -= functions[first].len();
            for part in &parts[first] {
                if let Some(count) = window.parts.get_mut(part) {
                    *count -= 1;
                    if *count == 0 {
                        change(part, -1);
                    }
                }
            }
        }
    }
    order
}

/// The functions placed last, and how many of them have a part.
struct Window<'a> {
    bytes: usize,
    functions: VecDeque<usize>,
    parts: HashMap<&'a [u8], usize>,
}

/// What a function is made of, each part once.
fn parts(function: &[u8]) -> Vec<&[u8]> {
    let mut parts: Vec<&[u8]> = function.windows(REPETITION_BYTES).collect();
    parts.sort_unstable();
    parts.dedup();
    parts
}

#[cfg(test)]
mod tests {
    use super::by_similarity;

    #[test]
    fn what_is_alike_comes_together() {
        let (one, other) = (b"the first of two kinds".to_vec(), b"is not like its sibling".to_vec());
        let changed = |bytes: &[u8]| [bytes, b"!"].concat();
        let order = by_similarity(&[one.clone(), other.clone(), changed(&other), changed(&one)]);
        assert_eq!(order, [0, 3, 1, 2]);
    }

    #[test]
    fn functions_too_short_for_a_repetition_keep_their_order() {
        assert_eq!(by_similarity(&[vec![1], vec![], vec![2, 3]]), [0, 1, 2]);
    }
}
