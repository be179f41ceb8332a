//! Inputs near good ones, for tests of parsers that a fuzzer also runs, at length, in `fuzz/`.

/// So many variants of the seeds, the same ones in every run: bytes are changed, dropped, repeated, or come from
/// another seed.
pub fn mutations<'a>(seeds: &'a [&'a [u8]], count: usize) -> impl Iterator<Item = Vec<u8>> + 'a {
    let mut random = fastrand::Rng::with_seed(7);
    (0..count).map(move |number| {
        let mut bytes = seeds[number % seeds.len()].to_vec();
        for _ in 0..random.usize(0..6) {
            mutate(&mut bytes, seeds, &mut random);
        }
        bytes
    })
}

fn mutate(bytes: &mut Vec<u8>, seeds: &[&[u8]], random: &mut fastrand::Rng) {
    const TELLING: &[u8] = b"\0\t\n\r \"%&'()*,-./0189:;<=>?@[\\]^_`aAzZ{|}~\x7f\x80\xff";
    let at = random.usize(0..=bytes.len());
    let length = random.usize(0..8).min(bytes.len() - at);
    match random.u8(0..5) {
        0 => drop(bytes.drain(at..at + length)),
        1 => bytes.insert(at, TELLING[random.usize(0..TELLING.len())]),
        2 if at < bytes.len() => bytes[at] = TELLING[random.usize(0..TELLING.len())],
        3 => {
            let part = bytes[at..at + length].to_vec();
            drop(bytes.splice(at..at, part));
        }
        _ => {
            let other = seeds[random.usize(0..seeds.len())];
            let from = random.usize(0..=other.len());
            let part = &other[from..(from + random.usize(0..40)).min(other.len())];
            drop(bytes.splice(at..at, part.iter().copied()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_differ_and_are_the_same_in_every_run() {
        let seeds: &[&[u8]] = &[b"one", b"another"];
        let all = mutations(seeds, 100).collect::<Vec<_>>();
        assert_eq!(all, mutations(seeds, 100).collect::<Vec<_>>());
        let distinct = all.iter().collect::<std::collections::BTreeSet<_>>();
        assert!(distinct.len() > 50, "{}", distinct.len());
    }
}
