//! Vectors that begin where a cache line does: what lies across two lines takes twice as long to load.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A vector of numbers that begins where a cache line does.
#[derive(Clone, Debug)]
pub struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    elements: PhantomData<T>,
}

/// Bytes of a tensor.
pub type Bytes = Aligned<u8>;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// Bytes of a cache line.
const LINE: usize = 64;

/// Numbers of up to 8 bytes, of which any bytes are one.
pub trait Number: FromBytes + IntoBytes + Immutable + KnownLayout {}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout> Number for T {}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self { lines: Vec::new(), len: 0, elements: PhantomData }
    }
}

impl<T: Number> Aligned<T> {
    /// Makes it `len` long; what is in it is of no meaning.
    pub fn resize(&mut self, len: usize) {
        let lines = (len * size_of::<T>()).div_ceil(LINE);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0; LINE]));
        }
        self.len = len;
    }

    /// At least `len`, of which the first are given.
    pub(crate) fn at_least(&mut self, len: usize) -> &mut [T] {
        if self.len < len {
            self.resize(len);
        }
        &mut self[..len]
    }
}

impl<T: Number> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let bytes = &self.lines.as_bytes()[..self.len * size_of::<T>()];
        <[T]>::ref_from_bytes(bytes).expect("a cache line begins where any number may")
    }
}

impl<T: Number> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let bytes = &mut self.lines.as_mut_bytes()[..self.len * size_of::<T>()];
        <[T]>::mut_from_bytes(bytes).expect("a cache line begins where any number may")
    }
}

impl<T: Number> FromIterator<T> for Aligned<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let elements: Vec<T> = elements.into_iter().collect();
        let mut all = Self::default();
        all.resize(elements.len());
        all.iter_mut().zip(elements).for_each(|(to, from)| *to = from);
        all
    }
}

impl<T: Number + PartialEq> PartialEq for Aligned<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Number + Eq> Eq for Aligned<T> {}
