//! `INDEX.HTM` and `README.TXT`: the two files that a person may open (XDM-30, XDM-31).

use super::{
    names::SET_DIRECTORY,
    pack::{Institution, PackagePlan},
};

/// `INDEX.HTM` as XHTML Basic: who made the medium and a link to each document. Every value is escaped.
pub(super) fn index_page(plan: &PackagePlan<'_>) -> String {
    let institution = escape(&plan.institution.name);
    let heading = plan.set_title.map_or_else(
        || "Documents".to_owned(),
        |title| escape(title).trim().to_owned(),
    );
    let mut items = String::new();
    for file in &plan.files {
        let label = file.title.as_deref().unwrap_or(&file.file_name);
        items.push_str(&format!(
            "<li><a href=\"IHE_XDM/{SET_DIRECTORY}/{}\">{}</a> ({})</li>\r\n",
            escape(&file.file_name),
            escape(label),
            escape(&file.media_type),
        ));
    }
    // A list may not be empty in XHTML.
    let list = if items.is_empty() {
        "<p>No documents.</p>\r\n".to_owned()
    } else {
        format!("<ul>\r\n{items}</ul>\r\n")
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
         <!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML Basic 1.1//EN\" \
         \"http://www.w3.org/TR/xhtml-basic/xhtml-basic11.dtd\">\r\n\
         <html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\">\r\n\
         <head><title>{institution}</title></head>\r\n\
         <body>\r\n\
         <h1>{institution}</h1>\r\n\
         <p><a href=\"README.TXT\">About this medium</a></p>\r\n\
         <h2>{heading}</h2>\r\n\
         {list}\
         </body>\r\n\
         </html>\r\n"
    )
}

/// `README.TXT`, constant for an installation: no patient data.
pub(super) fn readme(institution: &Institution) -> String {
    format!(
        "Institution:  {}\r\n\
         Contact:      {}\r\n\
         Created by:   {} {}\r\n\
         Product page: {}\r\n\
         \r\n\
         This medium follows the IHE profile XDM (Cross-Enterprise Document Media Interchange).\r\n\
         INDEX.HTM lists the documents. Each directory below IHE_XDM holds one submission set:\r\n\
         its metadata in METADATA.XML, and its documents.\r\n\
         No viewer is included; open the documents with the usual programs.\r\n",
        ascii_line(&institution.name),
        ascii_line(&institution.contact),
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_REPOSITORY"),
    )
}

/// Text for XML content and attribute values. Characters that XML 1.0 cannot carry become spaces.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push(' '),
            other if other.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

/// One line of printable ASCII: everything else becomes a question mark.
fn ascii_line(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_graphic() || c == ' ' {
                c
            } else {
                '?'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{document::DocumentKey, xdm::pack::PlannedFile};

    // rule: XDM-30, T-11d
    #[test]
    fn a_title_cannot_break_out_of_the_index_page() {
        let institution = Institution {
            name: "Elm & Oak".into(),
            ..Institution::default()
        };
        let plan = PackagePlan {
            metadata_xml: "<x/>",
            files: vec![PlannedFile {
                key: DocumentKey::Part(1),
                file_name: "DOC00001.XML".into(),
                title: Some("<script>alert('1')</script>\r\n\"".into()),
                media_type: "text/xml".into(),
            }],
            set_title: Some("A < B"),
            institution: &institution,
            documents_bytes: 0,
        };
        let page = index_page(&plan);
        assert!(!page.contains("<script"));
        let options = roxmltree::ParsingOptions {
            allow_dtd: true,
            ..Default::default()
        };
        let document = roxmltree::Document::parse_with_options(&page, options).unwrap();
        let texts: Vec<&str> = document.descendants().filter_map(|n| n.text()).collect();
        assert!(texts.contains(&"Elm & Oak") && texts.contains(&"A < B"));
        assert!(document.descendants().any(|n| {
            n.attribute("href") == Some("IHE_XDM/SUBSET01/DOC00001.XML")
                && n.text() == Some("<script>alert('1')</script>  \"")
        }));
    }

    // rule: XDM-31
    #[test]
    fn the_readme_is_ascii_with_crlf_and_names_institution_and_product() {
        let text = readme(&Institution {
            name: "Clínica\r\nX".into(),
            contact: "records@elm.example".into(),
        });
        assert!(text.is_ascii());
        assert!(text.contains("Cl?nica??X") && text.contains("records@elm.example"));
        assert!(text.contains("xdbridge"));
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    }
}
