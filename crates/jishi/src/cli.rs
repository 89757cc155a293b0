//! The command line, as clap reads it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jishi_kernels::cpu::matvec::Format;

/// Train, check, package and use foundation models, from a short recipe.
#[derive(Debug, Parser)]
#[command(name = "jishi", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// Print one JSON document on stdout; everything else goes to stderr.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a recipe: prepare data, train, evaluate, package.
    Train(TrainArgs),
    /// Go on with a run that was stopped or killed, exactly where it was.
    Resume(ResumeArgs),
    /// Find every problem of a recipe before training; estimate memory, disk and time.
    Check(CheckArgs),
    /// Evaluate a run on its own held-out data or on a file.
    Evaluate(EvaluateArgs),
    /// Predict the rows of a file.
    Predict(PredictArgs),
    /// Continue a text, answer in a conversation, or make images.
    Generate(GenerateArgs),
    /// Serve models over HTTP: predictions, and text in the form of OpenAI's interface.
    Serve(ServeArgs),
    /// Keys of `jishi serve`: who may ask for what.
    Keys {
        /// What to do; `list` if left out.
        #[command(subcommand)]
        command: Option<KeysCommand>,
        /// File of keys, which holds nothing but their hashes.
        #[arg(long, global = true, default_value = "keys.toml", value_name = "FILE")]
        file: PathBuf,
    },
    /// Watch, compare, start and try runs in a browser.
    Studio(StudioArgs),
    /// Make a package of a model that others made: a Hugging Face folder, a GGUF file, `hf:ORG/NAME`.
    Import(ImportArgs),
    /// Write a model in a format that others read, and check that it does the same.
    Export(ExportArgs),
    /// List, show, compare and remove runs.
    Runs {
        /// What to do; `list` if left out.
        #[command(subcommand)]
        command: Option<RunsCommand>,
        /// Folder that holds the runs.
        #[arg(long, global = true, default_value = "runs", value_name = "DIR")]
        root: PathBuf,
    },
    /// Draw the curves of one or more runs.
    Plot(PlotArgs),
    /// Data: built-in sets, and what a file holds.
    #[command(subcommand)]
    Data(DataCommand),
    /// Recipes: built-in ones, a new one for a file, the JSON schema.
    #[command(subcommand)]
    Recipe(RecipeCommand),
    /// Train a recipe straight and interrupted, and name the first tensor that differs.
    VerifyResume(VerifyArgs),
    /// Run Jishi's own workloads and print figures as JSON.
    Bench(BenchArgs),
}

/// A recipe and what overrides it.
#[derive(Debug, Args)]
pub struct RecipeArgs {
    /// Path of a recipe, or the name of a built-in one.
    pub recipe: String,
    /// Override a key: `--set train.epochs=5`. Repeatable; an empty value removes the key.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Seed of weights, shuffling and dropout; short for `--set train.seed=N`.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Cross-validate: each of N folds is the test set once; short for `--set data.split.folds=N`.
    #[arg(long, value_name = "N")]
    pub folds: Option<usize>,
}

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceName {
    /// The CPU.
    Cpu,
    /// A GPU.
    Gpu,
    /// The fastest that this build can use.
    Auto,
}

/// Arguments of `jishi train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The recipe.
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Folder that holds the runs.
    #[arg(long, default_value = "runs", value_name = "DIR")]
    pub out: PathBuf,
    /// Name of the run. Default: the recipe's name, with a number where that is taken.
    #[arg(long, value_name = "NAME", conflicts_with = "resume")]
    pub run: Option<String>,
    /// Go on with the last run of this recipe, exactly where it stopped.
    #[arg(long)]
    pub resume: bool,
    /// Where to compute.
    #[arg(long, default_value = "auto")]
    pub device: DeviceName,
    /// Show live curves in the terminal.
    #[arg(long)]
    pub watch: bool,
}

/// Arguments of `jishi resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Name of a run (or the start of one) under `runs`, or a folder.
    pub run: String,
    /// Where to compute.
    #[arg(long, default_value = "auto")]
    pub device: DeviceName,
    /// Show live curves in the terminal.
    #[arg(long)]
    pub watch: bool,
    /// Folder that holds the runs.
    #[arg(long, default_value = "runs", value_name = "DIR")]
    pub root: PathBuf,
}

/// Arguments of `jishi studio`.
#[derive(Debug, Args)]
pub struct StudioArgs {
    /// Folder that holds the runs.
    #[arg(default_value = "runs", value_name = "RUNS_FOLDER")]
    pub root: PathBuf,
    /// Address and port. The default is for this machine alone.
    #[arg(long, default_value = "127.0.0.1:8001", value_name = "ADDRESS")]
    pub listen: SocketAddr,
}

/// Arguments of `jishi check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The recipe.
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Folder that would hold the runs.
    #[arg(long, default_value = "runs", value_name = "DIR")]
    pub out: PathBuf,
}

/// Arguments of `jishi evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Name of a run (or the start of one) under `runs`, or a folder.
    pub run: String,
    /// Evaluate this file instead of the run's own data.
    #[arg(long, value_name = "PATH", conflicts_with = "split")]
    pub data: Option<PathBuf>,
    /// Which of the run's splits.
    #[arg(long, value_enum, default_value = "test")]
    pub split: HeldOut,
    /// Of a model that makes images: judge the images of this folder in place of its own.
    #[arg(long, value_name = "DIR")]
    pub samples: Option<PathBuf>,
    /// Allow columns that the model does not know.
    #[arg(long)]
    pub ignore_extra: bool,
    /// Folder that holds the runs.
    #[arg(long, default_value = "runs", value_name = "DIR")]
    pub root: PathBuf,
}

/// A split that was held out from training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HeldOut {
    /// The validation split.
    Validation,
    /// The test split.
    Test,
}

/// Arguments of `jishi predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// Name of a run (or the start of one) under `runs`, or a folder.
    pub run: String,
    /// CSV, TSV, JSONL or Parquet, plain or `.gz`/`.zst`.
    #[arg(long, value_name = "PATH")]
    pub input: PathBuf,
    /// Where to write: `.csv`, `.jsonl` or `.parquet`. Default: CSV on stdout.
    #[arg(long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Allow columns that the model does not know.
    #[arg(long)]
    pub ignore_extra: bool,
    /// Detection: folder for the images with their boxes drawn on them.
    #[arg(long, value_name = "DIR")]
    pub draw: Option<PathBuf>,
    /// Detection: boxes that are less sure than this are left out. Default: 0.25.
    #[arg(long, value_name = "SHARE")]
    pub score: Option<f64>,
    /// Folder that holds the runs.
    #[arg(long, default_value = "runs", value_name = "DIR")]
    pub root: PathBuf,
}

/// Arguments of `jishi import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A Hugging Face folder, a GGUF file, `package:NAME` or `hf:ORG/NAME`.
    pub source: String,
    /// The package's folder.
    #[arg(long, short, value_name = "DIR")]
    pub out: PathBuf,
}

/// Arguments of `jishi export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Name of a run (or the start of one) under `runs`, or a folder.
    pub run: String,
    /// The format.
    #[arg(long, value_enum)]
    pub format: ExportName,
    /// Number type of the weights. Default: f32.
    #[arg(long, value_enum, default_value = "f32")]
    pub weights: ExportWeights,
    /// The folder, the GGUF file or the ONNX file.
    #[arg(long, short, value_name = "PATH")]
    pub out: PathBuf,
    /// Folder that holds the runs.
    #[arg(long, default_value = "runs", value_name = "DIR")]
    pub root: PathBuf,
}

/// A format of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportName {
    /// A Hugging Face folder with `model.safetensors`.
    Safetensors,
    /// A GGUF file, for llama.cpp.
    Gguf,
    /// An ONNX file, for onnxruntime and others, with what is needed to use it in the same folder.
    Onnx,
}

/// A number type of exported weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportWeights {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point.
    F16,
    /// bfloat16.
    Bf16,
    /// Blocks of 32 integers of 8 bits; for GGUF.
    #[value(name = "q8_0")]
    Q8_0,
}

/// Arguments of `jishi generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// A run, a package, a Hugging Face folder, a GGUF file, `package:NAME` or `hf:ORG/NAME`.
    pub model: String,
    /// The text to continue; `-` reads it from stdin.
    #[arg(long, short, value_name = "TEXT", required_unless_present_any = ["input", "output"], conflicts_with = "input")]
    pub prompt: Option<String>,
    /// A file of prompts: JSONL with `prompt`, or a prompt a line. Answers are JSONL.
    #[arg(long, value_name = "PATH")]
    pub input: Option<PathBuf>,
    /// Where the answers to `--input` go; default: stdout. Where images go: a `.png` file for all of them in a grid, else a
    /// folder for a file each.
    #[arg(long, short, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Images to make. Default: 64.
    #[arg(long, value_name = "N")]
    pub count: Option<usize>,
    /// The prompt is a message of a conversation, put in the model's own form.
    #[arg(long)]
    pub chat: bool,
    /// What the model is told before the conversation.
    #[arg(long, value_name = "TEXT", requires = "chat")]
    pub system: Option<String>,
    /// Tokens at most. Default: as the recipe says.
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// Divides logits; 0 takes the most likely token.
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// Chooses among the K most likely tokens; 0: all.
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Chooses among the most likely tokens with this share of the probability together.
    #[arg(long, value_name = "P")]
    pub top_p: Option<f64>,
    /// Leaves out tokens with less than this share of the most likely one's probability.
    #[arg(long, value_name = "P")]
    pub min_p: Option<f64>,
    /// Divides the logits of tokens that were there already.
    #[arg(long, value_name = "X")]
    pub repetition_penalty: Option<f64>,
    /// Keeps this many hypotheses and gives the best.
    #[arg(long, value_name = "N")]
    pub beams: Option<usize>,
    /// A string that ends the text. Repeatable.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Of the random numbers: the same seed writes the same.
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// The text matches this JSON schema: a file, or the schema itself.
    #[arg(long, value_name = "SCHEMA", conflicts_with = "regex")]
    pub json_schema: Option<String>,
    /// The text matches this regular expression.
    #[arg(long, value_name = "PATTERN")]
    pub regex: Option<String>,
    /// Number type of the weights in memory. Default: f32; blocks of a GGUF file stay as they are.
    #[arg(long, value_name = "TYPE")]
    pub weights: Option<BenchPrecision>,
    /// Give the log-probability of every token, and of the N most likely ones (with --json).
    #[arg(long, value_name = "N")]
    pub log_probabilities: Option<usize>,
    /// Folder that holds the runs.
    #[arg(long, default_value = "runs", value_name = "DIR")]
    pub root: PathBuf,
}

/// Arguments of `jishi serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Runs or packages, each as RUN or NAME=RUN; of models that write text also what `jishi generate` takes.
    #[arg(value_name = "RUN")]
    pub runs: Vec<String>,
    /// File of TOML with these settings, named as the flags. Flags go before the environment (JISHI_SERVE_MAX_BODY), and
    /// that before the file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address and port. Default: 127.0.0.1:8000, which is for this machine alone.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Number type of the weights of models that write text. Default: f32; blocks of a GGUF file stay as they are.
    #[arg(long, value_name = "TYPE")]
    pub weights: Option<BenchPrecision>,
    /// File of keys, as `jishi keys add` makes it. Without one, everybody who reaches the address may ask.
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// Let others than this machine ask without a key.
    #[arg(long)]
    pub no_keys: bool,
    /// File of the server's certificate, and of those that vouch for it, as PEM: the server then speaks HTTPS.
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// File of the certificate's private key, as PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// File that gets a line of JSON for each request, with the hash of what was sent.
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
    /// Write what was sent to the audit log, and not its hash.
    #[arg(long)]
    pub audit_inputs: bool,
    /// Tell each request on stderr, as a line of JSON.
    #[arg(long)]
    pub access_log: bool,
    /// Seconds between looks at packages and keys, which are loaded again when they change; 0 for none. Default: 1.
    #[arg(long, value_name = "SECONDS")]
    pub watch: Option<u64>,
    /// Bytes of a request's body at most. Default: 16777216.
    #[arg(long, value_name = "BYTES")]
    pub max_body: Option<usize>,
    /// Rows, texts or images of a request at most. Default: 4096.
    #[arg(long, value_name = "N")]
    pub max_rows: Option<usize>,
    /// Texts that a model writes at the same time at most. Default: 32.
    #[arg(long, value_name = "N")]
    pub max_texts: Option<usize>,
    /// Requests that wait for a model at most. Default: 1024.
    #[arg(long, value_name = "N")]
    pub max_waiting: Option<usize>,
    /// Seconds for a whole request. Default: 300.
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Seconds for a request to arrive. Default: 20.
    #[arg(long, value_name = "SECONDS")]
    pub arrival_timeout: Option<u64>,
    /// Seconds that running requests get when the server ends. Default: 30.
    #[arg(long, value_name = "SECONDS")]
    pub drain: Option<u64>,
    /// Folder that holds the runs. Default: runs.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// What `jishi keys` does.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it, once.
    Add {
        /// Whose key it is.
        name: String,
        /// What it allows: predictions, generated texts and images, embeddings, the server's counters, reloading models.
        #[arg(long = "scope", value_name = "SCOPE", default_values = ["predict", "generate", "embed"])]
        scopes: Vec<ScopeName>,
        /// A model that it is for. Repeatable; all models if left out.
        #[arg(long = "model", value_name = "MODEL")]
        models: Vec<String>,
        /// Requests a minute. Default: any number.
        #[arg(long, value_name = "N")]
        requests: Option<u64>,
        /// Tokens a minute, read and written. Default: any number.
        #[arg(long, value_name = "N")]
        tokens: Option<u64>,
    },
    /// All keys, and what they allow.
    List,
    /// Take a key out of the file. A server that runs refuses it within a second or two.
    Remove {
        /// Whose key it is.
        name: String,
    },
}

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScopeName {
    /// Predictions of tables, texts and images.
    Predict,
    /// Texts, conversations and made images.
    Generate,
    /// Vectors of texts.
    Embed,
    /// The server's counters.
    Metrics,
    /// New versions of models.
    Admin,
}

/// What `jishi runs` does.
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// All runs, the newest first.
    List,
    /// One run: recipe, data, metrics, files.
    Show {
        /// The run.
        run: String,
    },
    /// Metrics and differing recipe keys side by side.
    Compare {
        /// Two or more runs.
        #[arg(required = true, num_args = 2..)]
        runs: Vec<String>,
    },
    /// Delete a run's folder.
    Remove {
        /// The run.
        run: String,
    },
}

/// Arguments of `jishi plot`.
#[derive(Debug, Args)]
pub struct PlotArgs {
    /// Runs, overlaid.
    #[arg(required = true)]
    pub runs: Vec<String>,
    /// The picture: `.svg` or `.png`.
    #[arg(long, short, value_name = "PATH", default_value = "curves.svg")]
    pub output: PathBuf,
    /// Folder that holds the runs.
    #[arg(long, default_value = "runs", value_name = "DIR")]
    pub root: PathBuf,
}

/// What `jishi data` does.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Data sets and models by name, with their licences.
    List,
    /// Get a data set or a model: a built-in one as a CSV file, others through the package client that you have.
    Get {
        /// Its name.
        name: String,
        /// Where to write a built-in one (default: stdout); the folder for others (default: jishi's cache).
        #[arg(long, short, value_name = "PATH")]
        output: Option<PathBuf>,
    },
    /// Types, ranges, classes, sizes, duplicates and what is broken of a table or of pictures.
    Inspect {
        /// A path, a glob, `builtin:NAME` or `package:NAME`; of pictures also a folder.
        source: String,
        /// The column to predict, to look for leaks.
        #[arg(long)]
        target: Option<String>,
    },
}

/// What `jishi recipe` does.
#[derive(Debug, Subcommand)]
pub enum RecipeCommand {
    /// Built-in recipes.
    List,
    /// The text of a built-in recipe.
    Show {
        /// Name of the recipe.
        name: String,
    },
    /// A recipe for a file of your own.
    New {
        /// CSV, TSV, JSONL or Parquet.
        #[arg(long, value_name = "PATH")]
        data: String,
        /// The column to predict.
        #[arg(long)]
        target: String,
        /// Where to write it. Default: stdout.
        #[arg(long, short, value_name = "PATH")]
        output: Option<PathBuf>,
    },
    /// JSON schema of recipes, for editors.
    Schema,
    /// The reference page of recipes, as Markdown.
    Reference,
}

/// Arguments of `jishi verify-resume`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The recipe.
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Steps to train; enough to cross an epoch and a validation.
    #[arg(long, default_value_t = 200)]
    pub steps: usize,
}

/// Arguments of `jishi bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Workloads: `gpt-s`, `gpt-m`, `resnet18`, `mlp`, `decode`, `gemm`, `csv`. Default: those that need no file.
    pub names: Vec<String>,
    /// Number type of products. Default: all that a workload has, one after another.
    #[arg(long, value_name = "TYPE")]
    pub precision: Option<BenchPrecision>,
    /// Print the time by operation too.
    #[arg(long)]
    pub profile: bool,
    /// The file that `csv` reads and prepares.
    #[arg(long, value_name = "PATH")]
    pub csv: Option<PathBuf>,
    /// The file's numeric target column.
    #[arg(long, default_value = "y")]
    pub target: String,
}

/// Number types of workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BenchPrecision {
    /// 32-bit floating point.
    F32,
    /// bfloat16 factors, 32-bit sums.
    Bf16,
    /// 8-bit integer weights.
    Int8,
}

impl BenchPrecision {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// That of weights in memory.
    pub fn format(self) -> Format {
        match self {
            Self::F32 => Format::F32,
            Self::Bf16 => Format::Bf16,
            Self::Int8 => Format::Int8,
        }
    }
}
