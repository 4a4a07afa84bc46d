//! UUIDs in columns.

use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use uuid::Uuid;

/// A UUID as a column of 16 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowId(pub(super) Uuid);

impl ToSql for RowId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(self.0.as_bytes())))
    }
}

impl FromSql for RowId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(Self(Uuid::from_bytes(<[u8; 16]>::column_result(value)?)))
    }
}
