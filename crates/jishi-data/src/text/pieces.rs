//! From a document to the tokens that a language model learns.

use std::ops::Range;

use jishi_recipe::Problem;

use super::cache::Piece;
use super::chat::ChatTemplate;
use super::documents::Document;
use super::tokenizer::Tokenizer;

/// Tokens of a document: of its text; of its prompt and text, the prompt not to be learned; or of its conversation, of
/// which the assistant's answers alone are learned.
///
/// # Errors
/// What the tokenizer or the template refuses; a conversation without a template.
pub fn piece_of(
    document: &Document,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
) -> Result<Piece, Problem> {
    let continues = document.continues;
    if !document.messages.is_empty() {
        let template = template.ok_or_else(|| {
            Problem::new("conversations need a chat template")
                .help("use a model that has one, or train on `prompt` and `column`")
        })?;
        let rendered = template.render_with_answers(&document.messages)?;
        let (ids, starts) = tokenizer.encode_with_places(&rendered.text)?;
        return Ok(Piece { learned: Some(tokens_within(&starts, &rendered.answers)), ids, continues });
    }
    let Some(prompt) = &document.prompt else {
        return Ok(Piece { ids: tokenizer.encode(&document.text)?, learned: None, continues });
    };
    // Apart, as they will be when the model is asked.
    let mut ids = tokenizer.encode(prompt)?;
    let read = ids.len();
    ids.extend(tokenizer.encode(&document.text)?);
    let learned = read..ids.len();
    Ok(Piece { ids, learned: Some(vec![learned]), continues })
}

/// Runs of tokens that begin within one of the ranges of bytes.
fn tokens_within(starts: &[usize], ranges: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    for (i, start) in starts.iter().enumerate() {
        if !ranges.iter().any(|range| range.contains(start)) {
            continue;
        }
        match out.last_mut() {
            Some(last) if last.end == i => last.end = i + 1,
            _ => out.push(i..i + 1),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jishi_recipe::TokenizerKind;

    use super::*;
    use crate::text::documents::Message;
    use crate::text::tokenizer::{SpecialSet, TrainOptions, train};

    fn tokenizer() -> Tokenizer {
        let recipe = jishi_recipe::Tokenizer { kind: TokenizerKind::Byte, ..Default::default() };
        train([], &TrainOptions { recipe, special: SpecialSet::Chat }).unwrap()
    }

    fn learned(piece: &Piece, tokenizer: &Tokenizer) -> Vec<String> {
        piece.learned.iter().flatten().map(|r| tokenizer.decode_all(&piece.ids[r.clone()])).collect()
    }

    #[test]
    fn prompts_and_conversations() {
        let tokenizer = tokenizer();
        let plain = Document { text: "hi".into(), ..Document::default() };
        assert_eq!(piece_of(&plain, &tokenizer, None).unwrap().learned, None);
        let prompt = Document { prompt: Some("1+1=".into()), ..plain.clone() };
        assert_eq!(learned(&piece_of(&prompt, &tokenizer, None).unwrap(), &tokenizer), ["hi"]);
        let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        let messages = vec![
            message("user", "q"),
            message("assistant", "é a"),
            message("user", "q"),
            message("assistant", "b"),
        ];
        let talk = Document { messages, ..Document::default() };
        let template = ChatTemplate::of(&tokenizer).unwrap();
        let piece = piece_of(&talk, &tokenizer, Some(&template)).unwrap();
        assert_eq!(learned(&piece, &tokenizer), ["é a<|im_end|>", "b<|im_end|>"]);
        assert!(piece_of(&talk, &tokenizer, None).is_err());
        let piece = piece_of(&prompt.into_conversation(), &tokenizer, Some(&template)).unwrap();
        assert_eq!(learned(&piece, &tokenizer), ["hi<|im_end|>"]);
        let whole = tokenizer.decode_all(&piece.ids);
        assert!(whole.starts_with("<|im_start|>user\n1+1=<|im_end|>\n<|im_start|>assistant\nhi"), "{whole}");
    }
}
