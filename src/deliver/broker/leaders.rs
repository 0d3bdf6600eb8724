//! Which broker leads the partition of a key, as the cluster tells it. Pure, but for the reading of an answer's bytes.

use super::wire::Reader;
use crate::config::BrokerAddress;

/// The partitions of one topic, in the order of their numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    partitions: Vec<(i32, Option<BrokerAddress>)>,
}

impl Topic {
    /// Reads an answer about one topic (version 4); Err: the error's code. None: it is no such answer.
    pub fn read(mut answer: Reader) -> Option<Result<Topic, i16>> {
        answer.i32()?;
        let brokers = answer.each(|reader| {
            let (node, host, port) = (reader.i32()?, reader.text()??, reader.i32()?);
            reader.text()?;
            Some((node, BrokerAddress { host, port: u16::try_from(port).ok()? }))
        })?;
        answer.text()?;
        answer.i32()?;
        let led_by = |node| brokers.iter().find(|(id, _)| *id == node).map(|(_, address)| address.clone());
        let topics = answer.each(|reader| {
            let error = reader.i16()?;
            reader.text()?;
            reader.i8()?;
            let partitions = reader.each(|reader| {
                reader.i16()?;
                let (number, leader) = (reader.i32()?, reader.i32()?);
                reader.each(Reader::i32)?;
                reader.each(Reader::i32)?;
                Some((number, led_by(leader)))
            })?;
            Some((error, partitions))
        })?;
        let (error, mut partitions) = topics.into_iter().next()?;
        partitions.sort_by_key(|(number, _)| *number);
        Some(if error == 0 && !partitions.is_empty() { Ok(Topic { partitions }) } else { Err(error) })
    }

    /// The partition of a key, the same that every client of Kafka's own gives it, and its leader if it has one now.
    pub fn place(&self, key: &[u8]) -> (i32, Option<&BrokerAddress>) {
        let at = (murmur2(key) & 0x7fff_ffff) as usize % self.partitions.len();
        let (number, leader) = &self.partitions[at];
        (*number, leader.as_ref())
    }
}

/// The hash by which Kafka's own clients spread keys over partitions.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c_u32 ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes(chunk.try_into().expect("it has four bytes")).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (n, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * n);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ h >> 15
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// The values that Kafka's own test of the hash holds.
    #[test]
    fn keys_lie_where_kafkas_own_clients_put_them() {
        for (key, want) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, want, "{key}");
        }
    }

    fn answer(error: i16, partitions: &[(i32, i32)]) -> Bytes {
        let mut bytes = vec![0, 0, 0, 0];
        let text = |bytes: &mut Vec<u8>, text: &str| {
            bytes.extend((text.len() as i16).to_be_bytes());
            bytes.extend(text.as_bytes());
        };
        bytes.extend(1_i32.to_be_bytes());
        bytes.extend(7_i32.to_be_bytes());
        text(&mut bytes, "k7.bank.example");
        bytes.extend(9092_i32.to_be_bytes());
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 7]);
        bytes.extend(1_i32.to_be_bytes());
        bytes.extend(error.to_be_bytes());
        text(&mut bytes, "payments");
        bytes.push(0);
        bytes.extend((partitions.len() as i32).to_be_bytes());
        for (number, leader) in partitions {
            bytes.extend([0, 0]);
            bytes.extend(number.to_be_bytes());
            bytes.extend(leader.to_be_bytes());
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0]);
        }
        bytes.into()
    }

    #[test]
    fn an_answer_says_who_leads_and_a_broken_one_nothing() {
        let topic = Topic::read(Reader(answer(0, &[(1, -1), (0, 7)]))).expect("an answer").expect("a topic");
        let led: Vec<_> = topic.partitions.iter().map(|(n, to)| (*n, to.as_ref().map(ToString::to_string))).collect();
        assert_eq!(led, [(0, Some("k7.bank.example:9092".into())), (1, None)]);
        assert_eq!(Topic::read(Reader(answer(3, &[]))), Some(Err(3)));
        let whole = answer(0, &[(0, 7)]);
        for end in 0..whole.len() {
            assert_eq!(Topic::read(Reader(whole.slice(..end))), None, "cut at {end}");
        }
    }
}
