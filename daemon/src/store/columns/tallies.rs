//! What is known of connections as columns: a number of a [`Tally`] in each, side by side, in its order.

use coral_model::connections::Tally;
use duckdb::arrow::array::{Array as _, ArrayRef, UInt64Array};

use super::shared;

/// The columns of some rows.
pub fn written<R>(rows: &[R], of: impl Fn(&R) -> &Tally) -> Vec<ArrayRef> {
    let mut columns: [Vec<u64>; Tally::NUMBERS] = Default::default();
    for row in rows {
        for (column, number) in columns.iter_mut().zip(of(row).numbers()) {
            column.push(number);
        }
    }
    columns.into_iter().map(|column| shared(UInt64Array::from(column))).collect()
}

/// The columns of rows that were read.
#[derive(Debug)]
pub struct Tallies<'a>([&'a UInt64Array; Tally::NUMBERS]);

impl<'a> Tallies<'a> {
    /// The one at `first` and those behind it, each as `column` finds it.
    pub fn of<E>(
        first: usize,
        column: impl Fn(usize) -> Result<&'a UInt64Array, E>,
    ) -> Result<Self, E> {
        let at = |n: usize| column(first + n);
        let columns = [
            at(0)?,
            at(1)?,
            at(2)?,
            at(3)?,
            at(4)?,
            at(5)?,
            at(6)?,
            at(7)?,
            at(8)?,
            at(9)?,
            at(10)?,
        ];
        Ok(Self(columns))
    }

    /// Those of a row; NULL is 0.
    pub fn at(&self, row: usize) -> Tally {
        let number =
            |column: &UInt64Array| if column.is_valid(row) { column.value(row) } else { 0 };
        Tally::of(self.0.map(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let tally = Tally::of(std::array::from_fn(|n| u64::try_from(n).unwrap() + 1));
        let columns = written(&[Tally::default(), tally], |tally| tally);
        let column = |at: usize| columns[at].as_any().downcast_ref::<UInt64Array>().ok_or(at);
        let read = Tallies::of(0, column).unwrap();
        assert_eq!((read.at(0), read.at(1)), (Tally::default(), tally));
        assert_eq!(column(10).unwrap().value(1), 11);
    }
}
