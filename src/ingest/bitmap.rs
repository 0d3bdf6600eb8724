//! Which of the known rows a run has seen: one bit for each, so that memory stays bounded by a page whatever the listing's length.

/// One bit for each known row, by the row's number.
#[derive(Debug, Default)]
pub struct Bitmap(Vec<u64>);

impl Bitmap {
    pub fn set(&mut self, number: u32) {
        let word = number as usize / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    pub fn has(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_is_set_alone() {
        let mut bits = Bitmap::default();
        for number in [0, 63, 64, 1_000] {
            bits.set(number);
        }
        let found: Vec<u32> = (0..2_000).filter(|number| bits.has(*number)).collect();
        assert_eq!(found, [0, 63, 64, 1_000]);
    }
}
