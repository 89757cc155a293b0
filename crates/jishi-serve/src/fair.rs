//! A queue in which clients take turns: who asks for much waits behind their own requests alone.

use std::collections::VecDeque;

/// Items that wait, by client.
#[derive(Debug)]
pub struct FairQueue<T> {
    /// The client whose turn it is comes first. No client is here without items.
    clients: VecDeque<(String, VecDeque<T>)>,
    len: usize,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { clients: VecDeque::new(), len: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an item behind the client's others.
    pub fn push(&mut self, client: &str, item: T) {
        self.len += 1;
        match self.clients.iter_mut().find(|(name, _)| name == client) {
            Some((_, items)) => items.push_back(item),
            None => self.clients.push_back((client.to_owned(), VecDeque::from([item]))),
        }
    }

    /// The item whose turn it is.
    #[must_use]
    pub fn peek(&self) -> Option<&T> {
        self.clients.front().and_then(|(_, items)| items.front())
    }

    /// Takes the item whose turn it is; it is the next client's turn then.
    pub fn pop(&mut self) -> Option<T> {
        let (name, mut items) = self.clients.pop_front()?;
        let item = items.pop_front();
        if !items.is_empty() {
            self.clients.push_back((name, items));
        }
        self.len -= usize::from(item.is_some());
        item
    }

    /// Removes items that need not wait any longer.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        for (_, items) in &mut self.clients {
            items.retain(&mut keep);
        }
        self.clients.retain(|(_, items)| !items.is_empty());
        self.len = self.clients.iter().map(|(_, items)| items.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_take_turns() {
        let mut queue = FairQueue::default();
        for i in 0..4 {
            queue.push("much", i);
        }
        queue.push("little", 10);
        queue.push("other", 20);
        queue.push("little", 11);
        assert_eq!((queue.len(), queue.peek()), (7, Some(&0)));
        queue.retain(|i| *i != 2);
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [0, 10, 20, 1, 11, 3]);
        assert!(queue.is_empty() && queue.peek().is_none());
    }
}
