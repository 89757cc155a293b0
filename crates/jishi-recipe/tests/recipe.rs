//! Every error with its exact line, `--set`, provenance, and that no text makes the parser panic.
#![allow(clippy::unwrap_used)]

use jishi_recipe::{Origin, Parsed, Problem, parse, to_toml};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Lines 1 to 26.
const VALID: &str = r#"name = "houses"
task = "regression"

[data]
source = "houses.csv"
target = "price"
ignore = ["Id"]

[data.split]
validation = 0.2
test = 0.2
seed = 1

[model]
family = "mlp"
hidden = [64, 64]
dropout = 0.1

[train]
epochs = 10
batch = 32

[train.optimizer]
name = "adam"
learning_rate = 1e-3
betas = [0.9, 0.99]
"#;

fn origin() -> Origin {
    Origin::File("r.toml".into())
}

fn good(text: &str, sets: &[&str]) -> Parsed {
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    parse(text, &origin(), &sets).unwrap_or_else(|p| panic!("{p}"))
}

fn bad(text: &str, sets: &[&str]) -> Vec<Problem> {
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    parse(text, &origin(), &sets).unwrap_err().0
}

/// The one problem of the valid recipe with a piece replaced.
fn one(from: &str, to: &str) -> Problem {
    assert!(VALID.contains(from), "{from}");
    let mut problems = bad(&VALID.replacen(from, to, 1), &[]);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems.remove(0)
}

#[track_caller]
fn assert_problem(problem: &Problem, line: u64, message: &str, help: &str) {
    assert_eq!(problem.line, Some(line), "{problem}");
    assert!(problem.column.is_some_and(|c| c > 0));
    assert_eq!(problem.file.as_deref(), Some("r.toml".as_ref()));
    assert!(problem.message.contains(message), "{problem}");
    assert!(problem.help.as_deref().unwrap_or_default().contains(help), "{problem}");
}

#[test]
fn unknown_keys_name_the_nearest() {
    for (from, to, line, message, help) in [
        ("epochs = 10", "epocs = 10", 20, "unknown key `epocs` in [train]", "did you mean `epochs`?"),
        ("batch = 32", "batch_size = 32", 21, "unknown key `batch_size`", "did you mean `batch`?"),
        ("batch = 32", "Batch = 32", 21, "unknown key `Batch`", "did you mean `batch`?"),
        (
            "batch = 32",
            "learning_rate = 1",
            21,
            "in [train]",
            "did you mean `train.optimizer.learning_rate`?",
        ),
        ("batch = 32", "lr = 1", 21, "in [train]", "did you mean `train.optimizer.learning_rate`?"),
        ("name = \"houses\"", "name = \"h\"\nepochs = 1", 2, "in the recipe", "did you mean `train.epochs`?"),
        (
            "name = \"houses\"",
            "name = \"h\"\nseed = 1",
            2,
            "in the recipe",
            "did you mean `train.seed` or `data.split.seed`?",
        ),
        (
            "dropout = 0.1",
            "drop_out = 0.1",
            17,
            "in [model] with family = \"mlp\"",
            "did you mean `dropout`?",
        ),
        (
            "dropout = 0.1",
            "heads = 8",
            17,
            "unknown key `heads`",
            "`heads` belongs to \"ft-transformer\", \"gpt2\", \"llama\", \"bert\", \"encoder-decoder\", \"vit\", \"mae\"; \"mlp\" has: hidden",
        ),
        ("dropout = 0.1", "xyzzy = 8", 17, "unknown key `xyzzy`", "keys of [model]: hidden, activation"),
        (
            "betas = [0.9, 0.99]",
            "momentum = 0.9",
            26,
            "[train.optimizer] with name = \"adam\"",
            "\"sgd\", \"rmsprop\", \"muon\"",
        ),
        ("[data.split]", "[data.spilt]", 9, "unknown key `spilt` in [data]", "did you mean `split`?"),
        ("seed = 1", "random_state = 1", 12, "in [data.split]", "did you mean `seed`?"),
    ] {
        assert_problem(&one(from, to), line, message, help);
    }
    assert_eq!(one("epochs = 10", "  epocs = 10").column, Some(3));
}

#[test]
fn wrong_types_say_what_was_expected_and_found() {
    for (from, to, line, message, help) in [
        (
            "epochs = 10",
            "epochs = \"ten\"",
            20,
            "`train.epochs`: expected a whole number, found the string \"ten\"",
            "",
        ),
        ("epochs = 10", "epochs = \"10\"", 20, "found the string \"10\"", "without quotes: 10"),
        ("epochs = 10", "epochs = 10.0", 20, "expected a whole number, found the number 10.0", "write 10"),
        ("epochs = 10", "epochs = -5", 20, "expected a whole number of 0 or more, found -5", ""),
        ("epochs = 10", "epochs = true", 20, "expected a whole number, found `true`", ""),
        ("epochs = 10", "epochs = 2020-01-01", 20, "found the date 2020-01-01", ""),
        ("test = 0.2", "test = nan", 11, "expected a finite number, found NaN", ""),
        ("test = 0.2", "test = \"0.2\"", 11, "expected a number, found the string", "without quotes: 0.2"),
        ("seed = 1", "seed = 5000000000", 12, "expected at most 4294967295, found 5000000000", ""),
        ("\"price\"", "2020", 6, "`data.target`: expected a string in quotes", "in quotes: \"2020\""),
        (
            "[\"Id\"]",
            "\"Id\"",
            7,
            "expected a list of strings, found the string \"Id\"",
            "in brackets: [\"Id\"]",
        ),
        ("[\"Id\"]", "[\"Id\", 5]", 7, "item 2 of `data.ignore`: expected a string in quotes", ""),
        ("[64, 64]", "64", 16, "expected a list of whole numbers", "in brackets: [64]"),
        ("[64, 64]", "[64, -1]", 16, "item 2 of `model.hidden`", ""),
        ("[0.9, 0.99]", "[0.9]", 26, "expected a list of 2, found a list of 1", ""),
        (
            "\"houses.csv\"",
            "5",
            5,
            "expected a string in quotes, or a list of strings, found the whole number 5",
            "",
        ),
        (
            "[data.split]",
            "[[data.split]]",
            9,
            "expected a table, found a list",
            "write [data.split] with single brackets",
        ),
        (
            "batch = 32",
            "schedule = \"cosine\"",
            21,
            "expected a table",
            "write schedule = { name = \"cosine\" }",
        ),
        (
            "batch = 32",
            "early_stopping = true",
            21,
            "expected a table, found `true`",
            "write early_stopping = {}",
        ),
    ] {
        assert_problem(&one(from, to), line, message, help);
    }
    let text = VALID.split("[train.optimizer]").next().unwrap().to_owned() + "optimizer = \"adam\"\n";
    let problems = bad(&text, &[]);
    assert_eq!(problems.len(), 1);
    assert_problem(
        &problems[0],
        23,
        "expected a table, found the string \"adam\"",
        "write optimizer = { name = \"adam\" }",
    );
}

#[test]
fn unknown_names_come_with_the_list() {
    for (from, to, line, message, help) in [
        (
            "\"regression\"",
            "\"regresion\"",
            2,
            "expected one of \"regression\", \"classification\", \"causal-lm\", \"dpo\", \"masked-lm\"",
            "did you mean \"regression\"?",
        ),
        (
            "\"mlp\"",
            "\"mpl\"",
            15,
            "`model.family`: expected one of \"linear\", \"mlp\"",
            "did you mean \"mlp\"?",
        ),
        ("\"mlp\"", "\"xgboost\"", 15, "found \"xgboost\"", ""),
        (
            "\"mlp\"",
            "3",
            15,
            "\"encoder-decoder\", \"resnet\", \"vgg\", \"vit\", \"mae\", \"yolo\", \"ssd\", \"dcgan\", \"wgan-gp\", \"pretrained\", found the whole number 3",
            "",
        ),
        (
            "\"adam\"",
            "\"adamm\"",
            24,
            "`train.optimizer.name`: expected one of \"sgd\"",
            "did you mean \"adam\"?",
        ),
        (
            "dropout = 0.1",
            "activation = \"swish\"",
            17,
            "expected one of \"identity\"",
            "did you mean \"silu\"?",
        ),
        ("dropout = 0.1", "activation = \"ReLU\"", 17, "found \"ReLU\"", "did you mean \"relu\"?"),
        ("seed = 1", "by = \"straified\"", 12, "`data.split.by`", "did you mean \"stratified\"?"),
        (
            "ignore = [\"Id\"]",
            "types = { a = \"int\" }",
            7,
            "`data.types.a`: expected one of \"number\"",
            "did you mean \"number\"?",
        ),
        (
            "batch = 32",
            "loss = { class_weights = \"balance\" }",
            21,
            "expected one of \"none\", \"balanced\", or a table of numbers",
            "did you mean \"balanced\"?",
        ),
    ] {
        assert_problem(&one(from, to), line, message, help);
    }
}

#[test]
fn missing_keys_are_named_at_their_table() {
    for (gone, line, message, help) in [
        ("name = \"houses\"\n", 1, "the recipe needs the key `name`", "name = \"my-run\""),
        ("task = \"regression\"\n", 1, "the recipe needs the key `task`", "task = \"regression\""),
        ("target = \"price\"\n", 4, "[data] needs the key `target`", "Column to predict."),
        (
            "family = \"mlp\"\n",
            14,
            "[model] needs the key `family`",
            "\"linear\", \"mlp\", \"ft-transformer\"",
        ),
        (
            "name = \"adam\"\n",
            23,
            "[train.optimizer] needs the key `name`",
            "\"sgd\", \"rmsprop\", \"adam\", \"adamw\", \"muon\"",
        ),
    ] {
        assert_problem(&one(gone, ""), line, message, help);
    }
    let problems = bad("", &[]);
    let messages: Vec<_> = problems.iter().map(|p| p.message.as_str()).collect();
    let needs = |key| format!("the recipe needs the key `{key}`");
    assert_eq!(messages, [needs("name"), needs("task"), needs("data"), needs("model")]);
}

#[test]
fn text_that_is_not_toml_is_shown_the_way() {
    for (from, to, line, help) in [
        ("\"houses\"", "houses", 1, "strings are written in quotes: name = \"houses\""),
        ("\"houses\"", "“houses”", 1, "straight quotes"),
        ("epochs = 10", "epochs: 10", 20, "TOML writes `key = value`: epochs = …"),
        ("epochs = 10", "epochs =", 20, "write a value after `epochs =`"),
        ("dropout = 0.1", "residual = True", 17, "in small letters: residual = true"),
        ("epochs = 10", "epochs = None", 20, "leave `epochs` out"),
        ("batch = 32", "epochs = 32", 21, "take one of them out"),
        ("\"houses.csv\"", "\"C:\\data\\h.csv\"", 5, "a `\\` is written `\\\\`"),
        ("[train]", "[train", 19, "in brackets"),
    ] {
        assert_problem(&one(from, to), line, "this is not TOML", help);
    }
}

#[test]
fn contradictions_and_ranges_have_their_line() {
    for (from, to, line, message) in [
        ("\"houses\"", "\"a/b\"", 1, "expected letters, digits"),
        ("\"houses\"", "\"\"", 1, "expected a letter or digit first"),
        ("\"houses\"", "\"..\"", 1, "expected a letter or digit first"),
        ("test = 0.2", "test = 1.5", 11, "`data.split.test`: expected a number from 0 to below 1, found 1.5"),
        ("validation = 0.2", "validation = -0.1", 10, "`data.split.validation`"),
        ("test = 0.2", "test = 0.8", 11, "nothing is left to train on"),
        ("seed = 1", "folds = 5", 12, "`folds` and `test` contradict each other"),
        ("test = 0.2", "folds = 1", 11, "`data.split.folds`: expected at least 2, found 1"),
        ("seed = 1", "by = \"time\"", 12, "by = \"time\" needs `column`"),
        ("seed = 1", "by = \"group\"", 12, "by = \"group\" needs `column`"),
        ("seed = 1", "column = \"a\"", 12, "has no effect without `by`"),
        ("seed = 1", "by = \"stratified\"", 12, "keeps the shares of classes"),
        ("seed = 1", "by = \"time\"\ncolumn = \"price\"", 13, "`data.split.column` is the target"),
        ("[\"Id\"]", "[\"price\"]", 7, "the target \"price\" is also in `data.ignore`"),
        ("[\"Id\"]", "[]\nfeatures = [\"price\"]", 8, "the target \"price\" is also in `data.features`"),
        ("[\"Id\"]", "[]\nfeatures = []", 8, "nothing to learn from"),
        ("[\"Id\"]", "[\"a\"]\nfeatures = [\"a\"]", 7, "is in `data.features` and in `data.ignore`"),
        ("[\"Id\"]", "[]\nfeatures = [\"a\", \"a\"]", 8, "twice"),
        ("[\"Id\"]", "[]\ndelimiter = \"ab\"", 8, "expected one ASCII character"),
        ("[\"Id\"]", "[]\ndelimiter = \"；\"", 8, "expected one ASCII character"),
        ("[\"Id\"]", "[]\nmax_dropped = 2", 8, "`data.max_dropped`"),
        ("[\"Id\"]", "[]\nscale = { columns = { price = \"log\" } }", 8, "\"price\" is the target"),
        ("\"houses.csv\"", "[]", 5, "found nothing"),
        ("[64, 64]", "[]", 16, "`model.hidden` is empty"),
        ("[64, 64]", "[64, 0]", 16, "layer 2 has no units"),
        ("dropout = 0.1", "dropout = 1", 17, "`model.dropout`: expected a number from 0 to below 1"),
        ("dropout = 0.1", "members = 0", 17, "`model.members`: expected at least 1"),
        ("dropout = 0.1", "init = \"zeros\"", 17, "for the linear model alone"),
        (
            "dropout = 0.1",
            "numbers = { embedding = \"piecewise-linear\", bins = 1 }",
            17,
            "`model.numbers.bins`",
        ),
        ("dropout = 0.1", "numbers = { embedding = \"periodic\", width = 0 }", 17, "`model.numbers.width`"),
        (
            "dropout = 0.1",
            "categories = { encoding = \"embedding\", width = 0 }",
            17,
            "`model.categories.width`",
        ),
        ("batch = 32", "steps = 5", 21, "`epochs` and `steps` contradict each other"),
        ("epochs = 10", "epochs = 0", 20, "`train.epochs`: expected at least 1"),
        ("batch = 32", "batch = 0", 21, "`train.batch`: expected at least 1"),
        ("batch = 32", "accumulate = 5", 21, "`train.accumulate` (5) must divide `train.batch` (32)"),
        ("batch = 32", "clip = 0", 21, "`train.clip`: expected a number above 0"),
        ("batch = 32", "ema = 1.0", 21, "`train.ema`"),
        ("batch = 32", "log_every = 0", 21, "`train.log_every`"),
        ("batch = 32", "checkpoint = { keep = 0 }", 21, "`train.checkpoint.keep`"),
        ("batch = 32", "schedule = { name = \"step\", step_epochs = 0 }", 21, "`train.schedule.step_epochs`"),
        ("batch = 32", "schedule = { name = \"one-cycle\", rise = 0 }", 21, "`train.schedule.rise`"),
        (
            "batch = 32",
            "loss = { name = \"cross-entropy\" }",
            21,
            "compares classes, and the task is regression",
        ),
        ("batch = 32", "loss = { name = \"binary-cross-entropy\" }", 21, "compares classes"),
        ("batch = 32", "loss = { label_smoothing = 0.1 }", 21, "`label_smoothing` is for classes"),
        ("batch = 32", "loss = { class_weights = \"balanced\" }", 21, "`class_weights` is for classes"),
        ("batch = 32", "early_stopping = { metric = \"auroc\" }", 21, "is no metric of a regression"),
        (
            "learning_rate = 1e-3",
            "learning_rate = 0",
            25,
            "`train.optimizer.learning_rate`: expected a number above 0",
        ),
        ("[0.9, 0.99]", "[0.9, 1.0]", 26, "`train.optimizer.betas`"),
    ] {
        assert_problem(&one(from, to), line, message, "");
    }
    let sgd =
        |keys: &str| VALID.replace("name = \"adam\"", "name = \"sgd\"").replace("betas = [0.9, 0.99]", keys);
    assert_problem(
        &bad(&sgd("nesterov = true"), &[])[0],
        26,
        "`nesterov` needs `momentum`",
        "momentum = 0.9",
    );
    let problems = bad(&sgd("nesterov = true\nmomentum = 0.9\ndampening = 0.1"), &[]);
    assert_problem(&problems[0], 28, "`nesterov` and `dampening` contradict", "");
    let classify =
        VALID.replace("regression", "classification").replace("batch = 32", "loss = { name = \"mse\" }");
    assert_problem(
        &bad(&classify, &[])[0],
        21,
        "compares numbers, and the task is classification",
        "cross-entropy",
    );
    let ft = VALID.replace("\"mlp\"", "\"ft-transformer\"").replace("hidden = [64, 64]", "heads = 7");
    assert_problem(
        &bad(&ft, &[])[0],
        16,
        "`model.heads` (7) must divide `model.width` (64)",
        "width = 63 with 7 heads",
    );
    let stop =
        VALID.replace("validation = 0.2", "validation = 0").replace("batch = 32", "early_stopping = {}");
    assert_problem(
        &bad(&stop, &[])[0],
        21,
        "early stopping goes by the validation split",
        "validation = 0.2",
    );
    let plateau = stop.replace("early_stopping = {}", "schedule = { name = \"plateau\" }");
    assert_problem(&bad(&plateau, &[])[0], 21, "schedule \"plateau\" goes by the validation split", "");
    let norm = VALID.replace("dropout = 0.1", "norm = \"batch\"").replace("batch = 32", "batch = 1");
    assert_problem(&bad(&norm, &[])[0], 21, "can't normalise a batch of one", "norm = \"layer\"");
    let folds = VALID.replace("test = 0.2", "folds = 2").replace("validation = 0.2", "validation = 0.5");
    assert_problem(
        &bad(&folds, &[])[0],
        10,
        "with 2 folds each training set has 0.50 of the rows",
        "smaller",
    );
    let folds = folds.replace("validation = 0.5", "by = \"column\"\ncolumn = \"part\"");
    assert_problem(&bad(&folds, &[])[0], 12, "the column gives only one split", "");
    good(&folds.replace("by = \"column\"", "by = \"time\""), &[]);
    let given = VALID.replace("seed = 1", "by = \"column\"\ncolumn = \"part\"");
    let lines: Vec<_> = bad(&given, &[]).iter().map(|p| p.line).collect();
    assert_eq!(lines, [Some(10), Some(11)]);
}

const PAIRS: &str = r#"name = "pairs"
task = "dpo"
[data]
source = "pairs.jsonl"
[text]
prompt = "prompt"
column = "chosen"
rejected = "rejected"
[model]
from = "runs/before"
[train]
steps = 10
[train.loss]
beta = 0.1
"#;

#[test]
fn preferences_say_what_they_lack() {
    let model = good(PAIRS, &[]).recipe;
    assert_eq!((model.train.loss.beta, model.task.continues_text()), (0.1, true));
    for (from, to, line, message, help) in [
        ("from = \"runs/before\"", "family = \"pretrained\"", 9, "[model] needs the key `from`", ""),
        (
            "from = \"runs/before\"",
            "family = \"gpt2\"",
            10,
            "can't be trained for dpo",
            "from = \"runs/NAME\"",
        ),
        ("from = \"runs/before\"", "from = \"\"", 10, "`model.from`: expected a run", ""),
        (
            "rejected = \"rejected\"\n",
            "",
            5,
            "[text] needs the key `rejected` for dpo",
            "rejected = \"rejected\"",
        ),
        (
            "rejected = \"rejected\"",
            "rejected = \"\"",
            8,
            "`text.rejected`: expected the name of a column",
            "",
        ),
        ("rejected = \"rejected\"", "rejected = [\"a\", \"b\"]", 8, "`text.rejected`: expected", ""),
        (
            "[text]",
            "target = \"rejected\"\n[text]",
            5,
            "`data.target` has no meaning for dpo",
            "`text.rejected`",
        ),
        (
            "prompt = ",
            "messages = ",
            6,
            "`text.messages` is for causal-lm, and the task is dpo",
            "leave it out",
        ),
        ("beta = 0.1", "beta = 0", 14, "`train.loss.beta`: expected a number above 0, found 0", ""),
        ("beta = 0.1", "beta = -0.1", 14, "`train.loss.beta`: expected a number above 0, found -0.1", ""),
        ("beta = 0.1", "label_smoothing = 0.5", 14, "from 0 to below 0.5 for dpo, found 0.5", ""),
        ("beta = 0.1", "name = \"cross-entropy\"", 14, "and the task is dpo", "a loss of its own"),
        (
            "task = \"dpo\"",
            "task = \"causal-lm\"",
            8,
            "`text.rejected` is for dpo, and the task is causal-lm",
            "",
        ),
    ] {
        let problems = bad(&PAIRS.replacen(from, to, 1), &[]);
        let found = problems.iter().find(|p| p.message.contains(message));
        let found = found.unwrap_or_else(|| panic!("{to}: {problems:?}"));
        assert_problem(found, line, message, help);
    }
    let others = PAIRS.replace("\"dpo\"", "\"causal-lm\"").replace("rejected = \"rejected\"\n", "");
    good(&others, &[]);
    let problems = bad(&others.replace("beta = 0.1", "beta = 0.2"), &[]);
    assert_problem(
        &problems[0],
        13,
        "`train.loss.beta` is for dpo, and the task is causal-lm",
        "leave it out",
    );
}

#[test]
fn all_problems_come_at_once_and_in_order() {
    let text = VALID
        .replace("\"regression\"", "\"regresion\"")
        .replace("target = \"price\"", "tarjet = \"price\"")
        .replace("test = 0.2", "test = 2.0")
        .replace("dropout = 0.1", "dropout = \"a lot\"")
        .replace("epochs = 10", "epochs = 10\nsteps = 5\nbatchs = 2");
    let lines: Vec<_> = bad(&text, &["train.clip=-1"]).iter().map(|p| p.line).collect();
    assert_eq!(lines, [Some(2), Some(6), Some(11), Some(17), Some(21), Some(22), None]);
}

#[test]
fn what_only_follows_from_a_wrong_key_is_not_reported() {
    // A misspelt key is not missing, too.
    assert_problem(&one("target", "tarjet"), 6, "unknown key `tarjet`", "did you mean `target`?");
    assert_problem(&one("family", "famly"), 15, "unknown key `famly` in [model]", "did you mean `family`?");
    assert_problem(&one("[model]", "[modle]"), 14, "unknown key `modle`", "did you mean `model`?");
    // `colum` is the problem, not that `column` is missing.
    let problem = one("seed = 1", "by = \"time\"\ncolum = \"sold\"");
    assert_problem(&problem, 13, "unknown key `colum`", "did you mean `column`?");
    // The loss may well fit the task that was meant.
    let text =
        VALID.replace("regression", "clasification").replace("batch = 32", "loss = { name = \"focal\" }");
    assert_eq!(bad(&text, &[]).len(), 1);
}

#[test]
fn defaults_are_filled_in_and_recorded() {
    let parsed = good(VALID, &["train.batch=64", "data.types.zip=category"]);
    let from = |key: &str| {
        let found = parsed.provenance.iter().find(|p| p.key == key);
        found.map(|p| (p.value.clone(), p.from.clone())).unwrap_or_else(|| panic!("{key}"))
    };
    assert_eq!(from("name"), (json!("houses"), "recipe line 1".into()));
    assert_eq!(from("train.optimizer.learning_rate"), (json!(0.001), "recipe line 25".into()));
    assert_eq!(from("train.optimizer.eps"), (json!(1e-8), "default".into()));
    assert_eq!(from("train.batch"), (json!(64), "--set".into()));
    assert_eq!(from("data.types.zip"), (json!("category"), "--set".into()));
    assert_eq!(from("train.clip"), (Value::Null, "default".into()));
    assert_eq!(from("data.scale.columns"), (json!({}), "default".into()));
    let removed = good(VALID, &["train.epochs="]);
    assert_eq!(removed.recipe.train.epochs, Some(100));
    assert_eq!(removed.source_text, VALID);
    let builtin = parse(VALID, &Origin::Builtin("houses".into()), &[]).unwrap();
    assert_eq!(builtin.provenance[0].from, "built-in recipe");
    assert_eq!(builtin.provenance.iter().filter(|p| p.from == "built-in recipe").count(), 16);
}

#[test]
fn folds_take_the_place_of_the_test_share() {
    let parsed = good(VALID, &["data.split.test=", "data.split.folds=5"]);
    assert_eq!(parsed.recipe.data.split.folds, Some(5));
    assert!(!parsed.provenance.iter().any(|p| p.key == "data.split.test"));
    assert_eq!(good(&to_toml(&parsed.recipe), &[]).recipe, parsed.recipe);
    let given = VALID.replace("validation = 0.2\ntest = 0.2", "by = \"column\"\ncolumn = \"part\"");
    let parsed = good(&given, &[]);
    assert_eq!(good(&to_toml(&parsed.recipe), &[]).recipe, parsed.recipe);
}

#[test]
fn set_changes_adds_and_removes() {
    let train = |sets: &[&str]| good(VALID, sets).recipe.train;
    assert_eq!(train(&["train.epochs=20", "train.epochs=30"]).epochs, Some(30));
    assert_eq!(train(&["train.epochs=", "train.steps=7"]).steps, Some(7));
    assert_eq!(train(&["train.epochs=none", "train.steps=7"]).epochs, None);
    assert_eq!(train(&["train.epochs=", "train.epochs = 4"]).epochs, Some(4));
    assert_eq!(train(&["train.early_stopping.patience=3"]).early_stopping.map(|e| e.patience), Some(3));
    assert_eq!(train(&["train.early_stopping={}", "train.early_stopping=none"]).early_stopping, None);
    let data = |set: &str| good(VALID, &[set]).recipe.data;
    assert!(to_toml(&good(VALID, &[]).recipe).contains("eps = 1e-8\n"));
    assert_eq!(data("data.target=SalePrice").target(), "SalePrice");
    assert_eq!(data("data.target=2020").target(), "2020");
    assert_eq!(data("data.target=\"a b\"").target(), "a b");
    assert_eq!(data("data.source=my houses.csv").source.as_slice(), ["my houses.csv"]);
    assert_eq!(data("data.ignore=[\"a\", \"b\"]").ignore, ["a", "b"]);
    assert_eq!(data("data.types.\"Lot = Area\"=number").types.len(), 1);
    let json = |sets: &[&str]| serde_json::to_value(good(VALID, sets).recipe).unwrap();
    assert_eq!(json(&["model.norm=none"])["model"]["norm"], "none");
    let sgd = "train.optimizer={ name = \"sgd\", momentum = 0.9 }";
    assert_eq!(json(&[sgd])["train"]["optimizer"]["momentum"], 0.9);
    let linear = ["model.family=linear", "model.hidden=", "model.dropout="];
    assert_eq!(json(&linear)["model"], json!({ "family": "linear", "init": "xavier-uniform" }));
}

#[test]
fn set_says_what_is_wrong_with_it() {
    for (set, message, help) in [
        (
            "train.epocs=5",
            "in `--set train.epocs=5`: unknown key `epocs` in [train]",
            "did you mean `epochs`?",
        ),
        ("epochs=5", "unknown key `epochs` in the recipe", "did you mean `train.epochs`?"),
        ("train.epochs=ten", "`train.epochs`: expected a whole number, found the string \"ten\"", ""),
        ("train.epochs", "expected KEY=VALUE", "for example"),
        ("=5", "expected KEY=VALUE", ""),
        ("train..epochs=5", "expected a key such as train.epochs", "dotted"),
        ("train.epocs=", "unknown key `train.epocs`", "did you mean `epochs`?"),
        ("train.epochs.x=1", "`train.epochs` is the whole number 10", "set all of it"),
        ("data.ignore=[a, b]", "expected a TOML value", "the shell takes quotes away"),
        ("train.steps=5", "`epochs` and `steps` contradict each other", "--set train.epochs="),
        ("train.batch=0", "`train.batch`: expected at least 1, found 0", ""),
        ("name=", "the recipe needs the key `name`", ""),
    ] {
        let problems = bad(VALID, &[set]);
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].message.starts_with(&format!("in `--set {set}`: ")), "{}", problems[0]);
        assert!(problems[0].message.contains(message), "{}", problems[0]);
        assert!(problems[0].help.as_deref().unwrap_or_default().contains(help), "{}", problems[0]);
        assert_eq!(problems[0].line, None);
    }
    let deep = |parts| format!("{}=1", vec!["a"; parts].join("."));
    assert!(bad(VALID, &[&deep(30)])[0].message.contains("no key of a recipe has 30 parts"));
    assert!(bad(VALID, &[&deep(100_000)])[0].message.len() < 500);
}

#[test]
fn another_family_drops_no_key_silently() {
    let problems = bad(VALID, &["model.family=linear"]);
    assert_eq!(problems.len(), 2);
    let remove = "`hidden` belongs to \"mlp\", \"llama\", \"bert\", \"encoder-decoder\", \"vgg\", \"vit\", \"mae\"; \"linear\" has: init; `--set model.hidden=` takes it out";
    assert_problem(&problems[0], 16, "unknown key `hidden` in [model] with family = \"linear\"", remove);
    assert_problem(&problems[1], 17, "unknown key `dropout`", "belongs to \"mlp\", \"ft-transformer\"");
}

#[test]
fn byte_order_mark_and_windows_lines_are_fine() {
    let text = format!("\u{feff}{}", VALID.replace('\n', "\r\n"));
    assert_eq!(good(&text, &[]).recipe, good(VALID, &[]).recipe);
    let problems = bad(&text.replace("batch", "bach"), &[]);
    assert_eq!((problems[0].line, problems[0].column), (Some(21), Some(1)));
}

#[test]
fn deep_nesting_is_turned_away() {
    let text = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(bad(&text, &[])[0].line, Some(1));
    let set = format!("name={}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(bad(VALID, &[&set]).len(), 1);
    let dotted = format!("{} = 1", vec!["a"; 100_000].join("."));
    assert!(!bad(&dotted, &[]).is_empty());
}

/// A value that fits a schema, whether or not the recipe then makes sense.
fn fitting(schema: &Value, root: &Value) -> BoxedStrategy<Value> {
    if let Some(target) = schema["$ref"].as_str() {
        return fitting(&root["$defs"][target.trim_start_matches("#/$defs/")], root);
    }
    for choices in [&schema["oneOf"], &schema["anyOf"]] {
        if let Some(choices) = choices.as_array() {
            let all: Vec<_> = choices.iter().map(|c| fitting(c, root)).collect();
            return proptest::strategy::Union::new(all).boxed();
        }
    }
    if schema["const"].is_string() {
        return Just(schema["const"].clone()).boxed();
    }
    match schema["type"].as_str().unwrap() {
        "string" => any::<String>().prop_map(Value::from).boxed(),
        "boolean" => any::<bool>().prop_map(Value::from).boxed(),
        "number" => any::<f64>().prop_filter_map("finite", |n| n.is_finite().then(|| json!(n))).boxed(),
        "integer" if schema["format"] == "uint32" => any::<u32>().prop_map(Value::from).boxed(),
        "integer" => (0..=i64::MAX).prop_map(Value::from).boxed(),
        "array" => {
            let len = schema["maxItems"].as_u64().map_or(0..=3, |n| n as usize..=n as usize);
            prop::collection::vec(fitting(&schema["items"], root), len).prop_map(Value::from).boxed()
        }
        _ => match schema["properties"].as_object() {
            Some(properties) => {
                let required = schema["required"].as_array().cloned().unwrap_or_default();
                let keys: Vec<_> = properties
                    .iter()
                    .map(|(key, schema)| {
                        let always = required.contains(&json!(key)) || schema["const"].is_string();
                        // `weighted(1.0)` would shrink to false.
                        let given = if always { Just(true).boxed() } else { any::<bool>().boxed() };
                        (Just(key.clone()), fitting(schema, root), given)
                    })
                    .collect();
                keys.prop_map(|all| {
                    all.into_iter().filter(|(_, _, given)| *given).map(|(k, v, _)| (k, v)).collect::<Value>()
                })
                .boxed()
            }
            None => prop::collection::hash_map(
                any::<String>(),
                fitting(&schema["additionalProperties"], root),
                0..3,
            )
            .prop_map(|m| m.into_iter().collect::<Value>())
            .boxed(),
        },
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>(), set in any::<String>()) {
        let _ = parse(&text, &origin(), &[]);
        let _ = parse(VALID, &origin(), &[set]);
    }

    #[test]
    fn no_text_of_toml_pieces_makes_the_parser_panic(
        pieces in prop::collection::vec("(\\[|\\]|\\{|\\}|=|\\.|,|\"|'|\n|#| |train|data|model|split|name|epochs|[0-9a-z.:_-]{1,6})", 0..40),
    ) {
        let text = pieces.concat();
        let _ = parse(&text, &origin(), &[]);
        let _ = parse(VALID, &origin(), &[text]);
    }

    #[test]
    fn no_change_of_a_valid_recipe_makes_the_parser_panic(
        at in 0..VALID.len(),
        cut in 0..12_usize,
        insert in "(\\PC{0,4}|[\\[\\]{}=\"\n.]{1,3}|[a-z_]{1,10} = [0-9]{1,3}\n)",
    ) {
        let end = (at + cut).min(VALID.len());
        let text = format!("{}{insert}{}", &VALID[..at], &VALID[end..]);
        let lines = text.lines().count() as u64 + 1;
        if let Err(problems) = parse(&text, &origin(), &[]) {
            prop_assert!(!problems.0.is_empty());
            for problem in &problems.0 {
                prop_assert!(problem.line.is_none_or(|l| (1..=lines).contains(&l)), "{problem}");
            }
        }
    }

    #[test]
    fn set_of_any_known_key_to_anything_never_panics(key in 0..200_usize, value in "(\\PC{0,8}|[0-9.-]{1,4}|[a-z]{1,8}|\\{\\}|\\[\\])") {
        let keys = jishi_recipe::schema()["$defs"]["Train"]["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let set = format!("train.{}={value}", keys[key % keys.len()]);
        if let Err(problems) = parse(VALID, &origin(), &[set]) {
            prop_assert!(!problems.0.is_empty());
        }
    }

    #[test]
    fn a_resolved_recipe_parses_back_to_itself(value in fitting(&jishi_recipe::schema(), &jishi_recipe::schema())) {
        let mut recipe: jishi_recipe::Recipe = serde_json::from_value(value.clone()).map_err(|e| TestCaseError::fail(format!("{e}\n{value:#}")))?;
        recipe.data.target.get_or_insert_with(|| "target".into());
        // What parsing itself would have made of these.
        if recipe.task.domain() == jishi_recipe::Domain::Texts {
            let plain: jishi_recipe::Data = serde_json::from_value(json!({ "source": "" })).unwrap();
            let jishi_recipe::Data { source, format, delimiter, target, split, max_dropped, bad_rows, .. } = recipe.data;
            recipe.data = jishi_recipe::Data { source, format, delimiter, target, split, max_dropped, bad_rows, ..plain };
            let text = recipe.text.get_or_insert_default();
            if recipe.task == jishi_recipe::TaskName::Dpo {
                text.rejected.get_or_insert_with(|| "rejected".into());
            }
            recipe.tokenizer.get_or_insert_default();
            if recipe.task.writes_text() {
                recipe.generate.get_or_insert_default();
            }
        }
        if recipe.task.domain() == jishi_recipe::Domain::Images {
            let plain: jishi_recipe::Data = serde_json::from_value(json!({ "source": "" })).unwrap();
            let jishi_recipe::Data { source, format, delimiter, target, split, max_dropped, bad_rows, memory_limit, .. } = recipe.data;
            recipe.data = jishi_recipe::Data { source, format, delimiter, target, split, max_dropped, bad_rows, memory_limit, ..plain };
            recipe.image.get_or_insert_default();
        }
        let split = &mut recipe.data.split;
        if split.by == jishi_recipe::SplitBy::Column {
            split.validation = 0.2;
        }
        if split.by == jishi_recipe::SplitBy::Column || split.folds.is_some() {
            split.test = 0.2;
        }
        let text = to_toml(&recipe);
        let back: jishi_recipe::Recipe = toml_edit::de::from_str(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(&back, &recipe);
        // Most such recipes make no sense, but none may be misread: no problem is one of type, name or key.
        match parse(&text, &origin(), &[]) {
            Ok(parsed) if recipe.train.epochs.is_none() && recipe.train.steps.is_none() => {
                prop_assert_eq!(parsed.recipe.train.epochs, Some(100));
            }
            Ok(parsed) => prop_assert_eq!(parsed.recipe, recipe),
            // Most such recipes make no sense, but none may be misread: no problem is one of type, name or key.
            Err(problems) => for problem in &problems.0 {
                for word in ["unknown key", "not TOML", "needs the key", "in quotes", "expected one of"] {
                    prop_assert!(!problem.message.contains(word), "{problem}\n{text}");
                }
            },
        }
    }

    #[test]
    fn a_sensible_recipe_parses_back_to_itself(
        validation in 0.0..0.4, test in 0.0..0.5, seed in any::<u32>(), batch in 2..10_000_usize,
        rate in 1e-9..10.0, smoothing in 0.0..0.9, column in "\\PC+", steps in prop::option::of(1..1_000_000_usize),
    ) {
        let mut recipe = good(VALID, &[]).recipe;
        recipe.task = jishi_recipe::TaskName::Classification;
        recipe.data.split.validation = validation;
        recipe.data.split.test = test;
        recipe.data.split.seed = seed;
        recipe.data.types.insert(column, jishi_recipe::ColumnType::Date);
        recipe.train.batch = batch;
        recipe.train.optimizer = jishi_recipe::Optimizer::Sgd(jishi_recipe::Sgd { learning_rate: rate, ..Default::default() });
        recipe.train.loss.label_smoothing = smoothing;
        if steps.is_some() {
            recipe.train.epochs = None;
            recipe.train.steps = steps;
        }
        let parsed = parse(&to_toml(&recipe), &origin(), &[]).map_err(|p| TestCaseError::fail(p.to_string()))?;
        prop_assert_eq!(parsed.recipe, recipe);
    }
}
