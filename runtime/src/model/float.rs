//! f32 in metadata, exactly: written as the f64 of the same value, whose shortest decimal form reads back to the same
//! bits. The shortest form of an f32 read as f64 and rounded again could be off by one unit.

use serde::{Deserialize, Deserializer, Serializer};

pub fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(|&v| f64::from(v)))
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
    Vec::<f64>::deserialize(deserializer)?
        .into_iter()
        .map(|wide| {
            let narrow = wide as f32;
            // Equality also refuses what does not fit, so that a model has one form only.
            if f64::from(narrow) == wide {
                Ok(narrow)
            } else {
                Err(serde::de::Error::custom(format!("{wide} is not an f32")))
            }
        })
        .collect()
}
