//! Parameters in JSON: a small map of scalars.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::error::ServeError;
use crate::tensor::{invalid, short};

/// A value.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// true or false.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// null.
    Null(()),
}

/// The parameters of a request or a tensor, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters(Vec<(String, Value)>);

/// More than any client sends.
const MOST: usize = 64;

impl Parameters {
    /// A value by its name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().rfind(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// All of them.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// A number that is at least 0. Texts of digits count: some clients send them so.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::Invalid`] for anything else.
    pub fn unsigned(&self, name: &str) -> Result<Option<u64>, ServeError> {
        let found = match self.get(name) {
            None | Some(Value::Null(())) => return Ok(None),
            Some(Value::Integer(n)) => u64::try_from(*n).ok(),
            Some(Value::Text(text)) => text.parse().ok(),
            Some(Value::Bool(_) | Value::Float(_)) => None,
        };
        found.map(Some).ok_or_else(|| {
            let value = short(&format!("{:?}", self.get(name).unwrap_or(&Value::Null(()))));
            invalid(format!("parameter '{name}' is {value}; it is a whole number, 0 or more"))
        })
    }

    /// A truth value.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::Invalid`] for anything else.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, ServeError> {
        match self.get(name) {
            None | Some(Value::Null(())) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(invalid(format!("parameter '{name}' is true or false"))),
        }
    }
}

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Parameters;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of numbers, texts and truth values")
            }

            fn visit_unit<E: Error>(self) -> Result<Parameters, E> {
                Ok(Parameters::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    if all.len() == MOST {
                        return Err(A::Error::custom(format!("more than {MOST} parameters")));
                    }
                    all.push(entry);
                }
                Ok(Parameters(all))
            }
        }
        from.deserialize_any(Map)
    }
}
