//! HTML that is escaped because of how it is made: text becomes [`Html`] by escaping alone, and tags and the names of
//! attributes are words of this program.

/// A piece of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Html(String);

/// A tag that is being made.
#[derive(Debug)]
pub struct Tag {
    name: &'static str,
    head: String,
    inside: String,
}

/// Tags without an end.
const VOID: [&str; 6] = ["input", "img", "br", "hr", "meta", "link"];

/// A tag.
#[must_use]
pub fn tag(name: &'static str) -> Tag {
    Tag { name, head: format!("<{name}"), inside: String::new() }
}

/// `div` of a class.
#[must_use]
pub fn div(class: &str) -> Tag {
    tag("div").class(class)
}

/// `span` of a class.
#[must_use]
pub fn span(class: &str) -> Tag {
    tag("span").class(class)
}

/// A link within the studio, or to an address that [`safe_link`] lets pass.
#[must_use]
pub fn a(href: &str) -> Tag {
    tag("a").attr("href", if safe_link(href) { href } else { "#" })
}

/// Whether a link stays here or leads to a page of the web, and runs nothing.
#[must_use]
pub fn safe_link(href: &str) -> bool {
    let scheme = href.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = !href.chars().any(|c| c.is_control() || c.is_whitespace());
    plain && (!scheme.contains(':') || ["http:", "https:", "mailto:"].iter().any(|s| href.starts_with(s)))
}

impl Tag {
    /// An attribute.
    #[must_use]
    pub fn attr(mut self, name: &'static str, value: impl AsRef<str>) -> Self {
        self.head.push(' ');
        self.head.push_str(name);
        self.head.push_str("=\"");
        escape(&mut self.head, value.as_ref());
        self.head.push('"');
        self
    }

    /// An attribute where there is a value.
    #[must_use]
    pub fn maybe(self, name: &'static str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    /// An attribute without a value, or none.
    #[must_use]
    pub fn flag(mut self, name: &'static str, on: bool) -> Self {
        if on {
            self.head.push(' ');
            self.head.push_str(name);
        }
        self
    }

    /// The class.
    #[must_use]
    pub fn class(self, class: &str) -> Self {
        if class.is_empty() { self } else { self.attr("class", class) }
    }

    /// What is inside, after what there is.
    #[must_use]
    pub fn add(mut self, inside: impl Into<Html>) -> Self {
        self.inside.push_str(&inside.into().0);
        self
    }

    /// Each of some pieces.
    #[must_use]
    pub fn all<T: Into<Html>>(mut self, pieces: impl IntoIterator<Item = T>) -> Self {
        for piece in pieces {
            self.inside.push_str(&piece.into().0);
        }
        self
    }
}

impl Html {
    /// Nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a piece.
    pub fn push(&mut self, piece: impl Into<Html>) {
        self.0.push_str(&piece.into().0);
    }

    /// As a whole document.
    #[must_use]
    pub fn document(self) -> String {
        format!("<!doctype html>\n{}", self.0)
    }

    /// As a part of one.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Tag> for Html {
    fn from(tag: Tag) -> Self {
        let Tag { name, mut head, inside } = tag;
        head.push('>');
        if !VOID.contains(&name) {
            head.push_str(&inside);
            head.push_str("</");
            head.push_str(name);
            head.push('>');
        }
        Self(head)
    }
}

impl From<&str> for Html {
    fn from(text: &str) -> Self {
        let mut out = String::with_capacity(text.len() + 8);
        escape(&mut out, text);
        Self(out)
    }
}

impl From<String> for Html {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&String> for Html {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl<T: Into<Html>> From<Option<T>> for Html {
    fn from(piece: Option<T>) -> Self {
        piece.map(Into::into).unwrap_or_default()
    }
}

impl<T: Into<Html>> From<Vec<T>> for Html {
    fn from(pieces: Vec<T>) -> Self {
        Self(pieces.into_iter().map(|piece| piece.into().0).collect())
    }
}

impl<T: Into<Html>, const N: usize> From<[T; N]> for Html {
    fn from(pieces: [T; N]) -> Self {
        Self(pieces.into_iter().map(|piece| piece.into().0).collect())
    }
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // HTML has no place for it.
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

/// A text as a part of a path or query.
#[must_use]
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The pairs of a query or of a form.
#[must_use]
pub fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(&key.replace('+', " ")), decoded(&value.replace('+', " ")))
    };
    text.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

/// A part of a path or query as the text that it stands for.
#[must_use]
pub fn decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = (*first == b'%').then(|| tail.get(..2)).flatten();
        let byte = hex.and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
        rest = if byte.is_some() { &tail[2..] } else { tail };
        bytes.push(byte.unwrap_or(*first));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_can_not_become_markup() {
        let evil = "<script>alert('x')</script>\"&";
        let page: Html = div("a\"b").attr("title", evil).add(evil).add(tag("br")).into();
        let text = page.into_string();
        assert_eq!(
            text,
            "<div class=\"a&quot;b\" title=\"&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;\">\
             &lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;<br></div>"
        );
        let none: Html = tag("p").add(None::<&str>).flag("hidden", true).into();
        assert_eq!(none.into_string(), "<p hidden></p>");
    }

    #[test]
    fn links_run_nothing() {
        for fine in ["/runs/a", "?x=1:2", "#top", "https://example.org/a:b", "plots/roc.svg", "mailto:a@b.c"]
        {
            assert!(safe_link(fine), "{fine}");
        }
        for bad in
            ["javascript:alert(1)", "JavaScript:x", "data:text/html,x", "java\tscript:x", " javascript:x"]
        {
            assert!(!safe_link(bad), "{bad}");
        }
    }

    #[test]
    fn forms_are_read_as_they_were_sent() {
        let found = pairs("a=1+2&b=%E6%88%BF%3D%26&c&d=%zz%4");
        let expected = [("a", "1 2"), ("b", "房=&"), ("c", ""), ("d", "%zz%4")];
        assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(pairs(&format!("k={}", encoded("房 =&%+"))), [("k".to_owned(), "房 =&%+".to_owned())]);
    }
}
