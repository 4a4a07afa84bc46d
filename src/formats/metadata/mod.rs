//! Document Sharing metadata (metadata.md): typed views on kept XML.
