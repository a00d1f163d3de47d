//! FlatBuffers, as far as program files use them: a reader that checks every offset against the buffer before it follows
//! it, and a writer. The generated readers of the usual library need `unsafe`, which this workspace denies, and the schema
//! is known by field numbers only.

use super::FileError;

/// A section without its length prefix.
#[derive(Clone, Copy)]
pub struct Flat<'a> {
    bytes: &'a [u8],
    section: &'static str,
}

/// A table inside a section.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    flat: Flat<'a>,
    at: usize,
    size: usize,
    vtable: usize,
    vtable_size: usize,
}

impl<'a> Flat<'a> {
    pub fn new(bytes: &'a [u8], section: &'static str) -> Self {
        Self { bytes, section }
    }

    fn broken(&self, what: &'static str, at: usize) -> FileError {
        FileError::Structure { section: self.section, what, at: at as u64 }
    }

    fn slice(&self, at: usize, len: usize, what: &'static str) -> Result<&'a [u8], FileError> {
        let end = at.checked_add(len).ok_or_else(|| self.broken(what, at))?;
        self.bytes.get(at..end).ok_or_else(|| self.broken(what, at))
    }

    pub fn u8(&self, at: usize) -> Result<u8, FileError> {
        Ok(self.slice(at, 1, "byte outside the section")?[0])
    }

    fn u16(&self, at: usize) -> Result<u16, FileError> {
        let bytes = self.slice(at, 2, "half-word outside the section")?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    pub fn u32(&self, at: usize) -> Result<u32, FileError> {
        let bytes = self.slice(at, 4, "word outside the section")?;
        if !at.is_multiple_of(4) {
            return Err(self.broken("misaligned word", at));
        }
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Where the offset at `at` leads.
    fn follow(&self, at: usize) -> Result<usize, FileError> {
        let offset = self.u32(at)?;
        if offset == 0 {
            return Err(self.broken("offset of zero", at));
        }
        at.checked_add(offset as usize)
            .filter(|&to| to < self.bytes.len())
            .ok_or_else(|| self.broken("offset outside the section", at))
    }

    pub fn root(&self) -> Result<Table<'a>, FileError> {
        self.table(self.follow(0)?)
    }

    fn table(&self, at: usize) -> Result<Table<'a>, FileError> {
        let back = self.u32(at)? as i32;
        let vtable = i64::try_from(at).unwrap_or(i64::MAX) - i64::from(back);
        let vtable = usize::try_from(vtable).map_err(|_| self.broken("field table outside the section", at))?;
        if !vtable.is_multiple_of(2) {
            return Err(self.broken("misaligned field table", vtable));
        }
        let (vtable_size, size) = (usize::from(self.u16(vtable)?), usize::from(self.u16(vtable + 2)?));
        if vtable_size < 4 || !vtable_size.is_multiple_of(2) || size < 4 {
            return Err(self.broken("field table of an impossible size", vtable));
        }
        self.slice(vtable, vtable_size, "field table outside the section")?;
        self.slice(at, size, "table outside the section")?;
        Ok(Table { flat: *self, at, size, vtable, vtable_size })
    }

    /// Start and number of elements of the vector at `at`.
    fn vector(&self, at: usize, element: usize) -> Result<(usize, usize), FileError> {
        let count = self.u32(at)? as usize;
        let bytes = count.checked_mul(element).ok_or_else(|| self.broken("vector too long", at))?;
        self.slice(at + 4, bytes, "vector outside the section")?;
        Ok((at + 4, count))
    }
}

impl<'a> Table<'a> {
    /// Where a field of `size` bytes is; None when it is absent.
    fn field(&self, id: u16, size: usize) -> Result<Option<usize>, FileError> {
        let entry = 4 + 2 * usize::from(id);
        if entry + 2 > self.vtable_size {
            return Ok(None);
        }
        let offset = usize::from(self.flat.u16(self.vtable + entry)?);
        if offset == 0 {
            return Ok(None);
        }
        if offset < 4 || offset + size > self.size {
            return Err(self.flat.broken("field outside its table", self.at));
        }
        Ok(Some(self.at + offset))
    }

    pub fn has(&self, id: u16) -> Result<bool, FileError> {
        Ok(self.field(id, 0)?.is_some())
    }

    pub fn u8(&self, id: u16) -> Result<u8, FileError> {
        self.field(id, 1)?.map_or(Ok(0), |at| self.flat.u8(at))
    }

    pub fn u32(&self, id: u16) -> Result<u32, FileError> {
        self.field(id, 4)?.map_or(Ok(0), |at| self.flat.u32(at))
    }

    /// Words of a struct that lies in the table itself.
    pub fn words<const N: usize>(&self, id: u16) -> Result<Option<[u32; N]>, FileError> {
        let Some(at) = self.field(id, N * 4)? else { return Ok(None) };
        let mut words = [0; N];
        for (i, word) in words.iter_mut().enumerate() {
            *word = self.flat.u32(at + i * 4)?;
        }
        Ok(Some(words))
    }

    pub fn table(&self, id: u16) -> Result<Option<Table<'a>>, FileError> {
        self.field(id, 4)?.map(|at| self.flat.table(self.flat.follow(at)?)).transpose()
    }

    fn vector(&self, id: u16, element: usize) -> Result<(usize, usize), FileError> {
        match self.field(id, 4)? {
            Some(at) => self.flat.vector(self.flat.follow(at)?, element),
            None => Ok((0, 0)),
        }
    }

    /// A string or a vector of bytes.
    pub fn bytes(&self, id: u16) -> Result<&'a [u8], FileError> {
        let (at, count) = self.vector(id, 1)?;
        self.flat.slice(at, count, "vector outside the section")
    }

    /// A vector of structs of `N` words each.
    pub fn structs<const N: usize>(&self, id: u16) -> Result<Vec<[u32; N]>, FileError> {
        let (at, count) = self.vector(id, N * 4)?;
        (0..count)
            .map(|i| {
                let mut words = [0; N];
                for (w, word) in words.iter_mut().enumerate() {
                    *word = self.flat.u32(at + (i * N + w) * 4)?;
                }
                Ok(words)
            })
            .collect()
    }

    pub fn tables(&self, id: u16) -> Result<Vec<Table<'a>>, FileError> {
        let (at, count) = self.vector(id, 4)?;
        (0..count).map(|i| self.flat.table(self.flat.follow(at + i * 4)?)).collect()
    }
}

/// What a section is written from.
pub enum Node<'a> {
    Table(Vec<(u16, Field<'a>)>),
    Tables(Vec<Node<'a>>),
    Words(&'a [u32]),
    /// Structs of this many words.
    Structs(usize, Vec<u32>),
    Bytes(Vec<u8>),
    Text(&'a str),
}

/// A field of a table.
pub enum Field<'a> {
    U8(u8),
    U32(u32),
    Inline(Vec<u32>),
    Child(Node<'a>),
}

/// A section with its length prefix.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
    /// Where the words of each [`Node::Words`] begin, from the first byte of the section, prefix included.
    pub words: Vec<usize>,
}

impl Writer {
    /// Writes a root table.
    pub fn section(mut self, root: &Node) -> (Vec<u8>, Vec<usize>) {
        self.bytes = vec![0; 8];
        let at = self.node(root);
        self.put(4, (at - 4) as u32);
        self.align(4);
        self.put(0, (self.bytes.len() - 4) as u32);
        (self.bytes, self.words)
    }

    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn put(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn word(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }

    fn node(&mut self, node: &Node) -> usize {
        self.align(4);
        let at = self.bytes.len();
        match node {
            Node::Table(fields) => return self.table(fields),
            Node::Tables(nodes) => {
                self.word(nodes.len() as u32);
                self.bytes.resize(self.bytes.len() + nodes.len() * 4, 0);
                for (i, child) in nodes.iter().enumerate() {
                    self.child(at + 4 + i * 4, child);
                }
            }
            Node::Words(words) => {
                self.word(words.len() as u32);
                self.words.push(self.bytes.len());
                words.iter().for_each(|word| self.word(*word));
            }
            Node::Structs(size, words) => {
                self.word((words.len() / size) as u32);
                words.iter().for_each(|word| self.word(*word));
            }
            Node::Bytes(bytes) => {
                self.word(bytes.len() as u32);
                self.bytes.extend(bytes);
            }
            Node::Text(text) => {
                self.word(text.len() as u32);
                self.bytes.extend(text.as_bytes());
                self.bytes.push(0);
            }
        }
        at
    }

    fn child(&mut self, offset_at: usize, node: &Node) {
        let at = self.node(node);
        self.put(offset_at, (at - offset_at) as u32);
    }

    /// The field table, then the table, then what it points to.
    fn table(&mut self, fields: &[(u16, Field)]) -> usize {
        let entries = fields.iter().map(|(id, _)| usize::from(*id) + 1).max().unwrap_or(0);
        let vtable_size = 4 + 2 * entries;
        let (mut offsets, mut size) = (vec![0u16; entries], 4);
        for (id, field) in fields {
            offsets[usize::from(*id)] = size as u16;
            size += match field {
                Field::Inline(words) => words.len() * 4,
                _ => 4,
            };
        }
        let vtable = self.bytes.len();
        for half in [vtable_size as u16, size as u16].into_iter().chain(offsets.iter().copied()) {
            self.bytes.extend(half.to_le_bytes());
        }
        self.align(4);
        let at = self.bytes.len();
        self.word((at - vtable) as u32);
        for (_, field) in fields {
            match field {
                Field::U8(value) => self.word((*value).into()),
                Field::U32(value) => self.word(*value),
                Field::Inline(words) => words.iter().for_each(|word| self.word(*word)),
                Field::Child(_) => self.word(0),
            }
        }
        for (id, field) in fields {
            if let Field::Child(node) = field {
                self.child(at + usize::from(offsets[usize::from(*id)]), node);
            }
        }
        at
    }
}
