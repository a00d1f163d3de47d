//! The nodes of a graph, and who makes and who reads a tensor.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Node;

/// Questions about one state of the list that are answered by looking through it. A rewrite asks a few and changes the
/// list; a search asks of every node, and then an index is worth its making.
const FEW: u32 = 16;

/// The nodes of a graph in order: a `Vec` that answers quickly who makes and who reads a tensor.
///
/// Whoever changes the list starts it over: every road to a `&mut Node` is one that forgets the index.
#[derive(Debug, Default)]
pub struct Nodes {
    list: Vec<Node>,
    asked: AtomicU32,
    index: OnceLock<Index>,
}

/// Numbers of nodes by the tensors they make and read.
#[derive(Debug, Default)]
struct Index {
    makers: HashMap<String, usize>,
    readers: HashMap<String, Vec<usize>>,
}

impl Index {
    fn of(list: &[Node]) -> Self {
        let mut index = Self::default();
        for (number, node) in list.iter().enumerate() {
            for output in &node.outputs {
                index.makers.entry(output.clone()).or_insert(number);
            }
            for input in &node.inputs {
                let readers = index.readers.entry(input.clone()).or_default();
                if readers.last() != Some(&number) {
                    readers.push(number);
                }
            }
        }
        index
    }
}

impl Nodes {
    /// Number of the first node that makes `tensor`.
    pub fn producer(&self, tensor: &str) -> Option<usize> {
        match self.index() {
            Some(index) => index.makers.get(tensor).copied(),
            None => self.list.iter().position(|node| node.outputs.iter().any(|output| output == tensor)),
        }
    }

    /// Numbers of the nodes that read `tensor`, each once, in order.
    pub fn consumers(&self, tensor: &str) -> Vec<usize> {
        let reads = |node: &Node| node.inputs.iter().any(|input| input == tensor);
        match self.index() {
            Some(index) => index.readers.get(tensor).cloned().unwrap_or_default(),
            None => (0..self.list.len()).filter(|&number| reads(&self.list[number])).collect(),
        }
    }

    /// The index, once enough was asked.
    fn index(&self) -> Option<&Index> {
        if self.index.get().is_none() && self.asked.fetch_add(1, Ordering::Relaxed) < FEW {
            return None;
        }
        Some(self.index.get_or_init(|| Index::of(&self.list)))
    }
}

impl Deref for Nodes {
    type Target = Vec<Node>;

    fn deref(&self) -> &Vec<Node> {
        &self.list
    }
}

impl DerefMut for Nodes {
    fn deref_mut(&mut self) -> &mut Vec<Node> {
        self.index.take();
        *self.asked.get_mut() = 0;
        &mut self.list
    }
}

impl Clone for Nodes {
    fn clone(&self) -> Self {
        self.list.clone().into()
    }
}

impl PartialEq for Nodes {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl From<Vec<Node>> for Nodes {
    fn from(list: Vec<Node>) -> Self {
        Self { list, ..Self::default() }
    }
}

impl FromIterator<Node> for Nodes {
    fn from_iter<I: IntoIterator<Item = Node>>(nodes: I) -> Self {
        nodes.into_iter().collect::<Vec<_>>().into()
    }
}

impl IntoIterator for Nodes {
    type Item = Node;
    type IntoIter = std::vec::IntoIter<Node>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<'a> IntoIterator for &'a Nodes {
    type Item = &'a Node;
    type IntoIter = std::slice::Iter<'a, Node>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

impl<'a> IntoIterator for &'a mut Nodes {
    type Item = &'a mut Node;
    type IntoIter = std::slice::IterMut<'a, Node>;

    fn into_iter(self) -> Self::IntoIter {
        self.deref_mut().iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_answers_as_the_list_does_and_forgets_when_it_changes() {
        let mut nodes: Nodes = [
            Node::new("Relu", &["x"], "a"),
            Node::new("Add", &["a", "a"], "b"),
            Node::new("Mul", &["b", "a"], "c"),
            Node::new("Relu", &["", "x"], "a"),
        ]
        .into_iter()
        .collect();
        let answers = |nodes: &Nodes| {
            ["x", "a", "b", "c", "", "none"].map(|tensor| (nodes.producer(tensor), nodes.consumers(tensor)))
        };
        let looked = answers(&nodes);
        assert!(nodes.index.get().is_none());
        assert_eq!(looked[1], (Some(0), vec![1, 2]));
        for _ in 0..FEW {
            assert_eq!(answers(&nodes), looked);
        }
        assert!(nodes.index.get().is_some());
        nodes[0].outputs[0] = "none".into();
        assert!(nodes.index.get().is_none());
        for _ in 0..=FEW {
            assert_eq!(answers(&nodes)[5], (Some(0), vec![]));
            assert_eq!(nodes.producer("a"), Some(3));
        }
    }
}
