//! Something for each open document of a client.

/// Values by the number that a client has given to the document. Numbers grow and documents are few, so this is a list in
/// their order.
#[derive(Debug)]
pub struct DocumentMap<T>(Vec<(u32, T)>);

impl<T> Default for DocumentMap<T> {
    fn default() -> Self {
        DocumentMap(Vec::new())
    }
}

impl<T> DocumentMap<T> {
    fn find(&self, id: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |(id, _)| *id)
    }

    /// What is there for `id`.
    pub fn get(&self, id: u32) -> Option<&T> {
        let (_, value) = self.0.get(self.find(id).ok()?)?;
        Some(value)
    }

    /// What is there for `id`, to change it.
    pub fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let at = self.find(id).ok()?;
        let (_, value) = self.0.get_mut(at)?;
        Some(value)
    }

    /// Puts a value in, in the place of what was there for `id`.
    pub fn insert(&mut self, id: u32, value: T) {
        match self.find(id) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (id, value)),
        }
    }

    /// Takes out what is there for `id`.
    pub fn remove(&mut self, id: u32) -> Option<T> {
        let (_, value) = self.0.remove(self.find(id).ok()?);
        Some(value)
    }

    /// All values, in the order of their documents.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.0.iter().map(|(id, value)| (*id, value))
    }
}

#[cfg(test)]
mod tests {
    use super::DocumentMap;

    #[test]
    fn what_is_put_in_is_found_until_it_is_taken_out() {
        let mut map = DocumentMap::default();
        for (id, value) in [(7, 'a'), (3, 'b'), (9, 'c'), (3, 'd')] {
            map.insert(id, value);
        }
        assert_eq!(map.iter().collect::<Vec<_>>(), [(3, &'d'), (7, &'a'), (9, &'c')]);
        assert_eq!((map.remove(7), map.remove(7), map.get(7)), (Some('a'), None, None));
        assert_eq!(map.get_mut(9), Some(&mut 'c'));
        assert_eq!((map.get(3), map.get(4)), (Some(&'d'), None));
    }
}
