//! Tables that scroll inside their own box.

use crate::plot::escape;

/// A table of cells that are escaped already. The first column heads its row.
pub fn plain(out: &mut String, caption: &str, head: &[&str], rows: Vec<Vec<String>>) {
    open(out, caption, head);
    out.push_str("<tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (index, cell) in row.into_iter().enumerate() {
            match index {
                0 => out.push_str(&format!("<th scope=\"row\">{cell}</th>")),
                _ => out.push_str(&format!("<td>{cell}</td>")),
            }
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n");
    close(out);
}

/// Opens a table with its caption and head; the caller writes its bodies.
pub fn open(out: &mut String, caption: &str, head: &[&str]) {
    let caption = escape(caption);
    out.push_str(&format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" \
         tabindex=\"0\">\n<table>\n<caption>{caption}</caption>\n\
         <thead><tr>"
    ));
    for title in head {
        out.push_str(&format!("<th scope=\"col\">{}</th>", escape(title).replace(" (%)", "&nbsp;(%)")));
    }
    out.push_str("</tr></thead>\n");
}

/// Closes what [`open`] opened.
pub fn close(out: &mut String) {
    out.push_str("</table>\n</div>\n");
}
