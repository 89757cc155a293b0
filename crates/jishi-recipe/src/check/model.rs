//! Checks of `[model]`.

use super::Checker;
use crate::types::{
    CategoryEncoding, FtTransformerModel, Init, MlpModel, Model, Norm, NumberEmbedding, TaskName,
};

impl Checker<'_> {
    pub(super) fn model(&mut self) {
        let (model, task) = (&self.recipe.model, self.recipe.task);
        if !model.tasks().contains(&task) {
            let message =
                format!("a model of family \"{}\" can't be trained for {}", model.family(), task.name());
            let tasks: Vec<&str> = model.tasks().iter().map(|t| t.name()).collect();
            let help = match task {
                // What answers are compared with is the model as it was before.
                TaskName::Dpo => "name a model that was trained before: from = \"runs/NAME\"".to_owned(),
                _ => format!("tasks of \"{}\": {}", model.family(), tasks.join(", ")),
            };
            self.fault(&["model.family", "task"], message, help);
        }
        let init = match model {
            Model::Gpt2(m) => return self.transformer(m.layers, m.heads, m.width, m.context, m.dropout),
            Model::Llama(m) => return self.llama(m),
            Model::Bert(m) => return self.transformer(m.layers, m.heads, m.width, m.context, m.dropout),
            Model::EncoderDecoder(m) => {
                return self.transformer(m.layers, m.heads, m.width, m.context, m.dropout);
            }
            Model::ResNet(m) => return self.resnet(m),
            Model::Vgg(m) => return self.vgg(m),
            Model::Vit(m) => return self.vit(m),
            Model::Mae(m) => return self.mae(m),
            Model::Yolo(m) => return self.yolo(m),
            Model::Ssd(m) => return self.ssd(m),
            Model::Dcgan(m) => return self.dcgan(m),
            Model::WganGp(m) => return self.wgan_gp(m),
            Model::Pretrained(m) => return self.pretrained(m),
            Model::Linear(_) => return,
            Model::Mlp(mlp) => {
                self.mlp(mlp);
                mlp.init
            }
            Model::FtTransformer(ft) => {
                self.ft_transformer(ft);
                ft.init
            }
        };
        if init == Init::Zeros {
            let message =
                "init = \"zeros\" is for the linear model alone: every unit of a layer would stay the same";
            self.fault(&["model.init", "model.family"], message, "for example: init = \"torch\"");
        }
    }

    fn mlp(&mut self, mlp: &MlpModel) {
        let hidden = &["model.hidden", "model.family"];
        if mlp.hidden.is_empty() {
            let help = "for example hidden = [64, 64]; a model without hidden layers is family = \"linear\"";
            self.fault(hidden, "`model.hidden` is empty: expected the width of at least one layer", help);
        } else if let Some(i) = mlp.hidden.iter().position(|w| *w == 0) {
            let message = format!("`model.hidden`: layer {} has no units: expected at least 1", i + 1);
            self.fault(hidden, message, "for example: hidden = [64, 64]");
        }
        self.share("model.dropout", mlp.dropout);
        self.at_least("model.members", mlp.members, 1);
        let numbers = &mlp.numbers;
        match numbers.embedding {
            NumberEmbedding::None => {}
            NumberEmbedding::PiecewiseLinear => self.at_least("model.numbers.bins", numbers.bins, 2),
            NumberEmbedding::Periodic => {
                self.at_least("model.numbers.width", numbers.width, 1);
                self.at_least("model.numbers.frequencies", numbers.frequencies, 1);
                self.positive("model.numbers.sigma", numbers.sigma);
            }
        }
        if mlp.categories.encoding == CategoryEncoding::Embedding {
            self.at_least("model.categories.width", mlp.categories.width, 1);
        }
        let train = &self.recipe.train;
        let part = train.batch / train.accumulate.max(1);
        if mlp.norm == Norm::Batch && part == 1 {
            let about = &["train.batch", "train.accumulate", "model.norm"];
            let message = "norm = \"batch\" can't normalise a batch of one example";
            self.fault(
                about,
                message,
                "make `train.batch` larger (or `accumulate` smaller), or write norm = \"layer\"",
            );
        }
    }

    fn ft_transformer(&mut self, ft: &FtTransformerModel) {
        self.blocks(ft.layers, ft.heads, ft.width);
        self.positive("model.feed_forward", ft.feed_forward);
        if ft.feed_forward > 0.0 && ft.width > 0 && ft.feed_forward * (ft.width as f64) < 1.0 {
            let message = format!(
                "`model.feed_forward` ({}) times `model.width` ({}) leaves no unit",
                ft.feed_forward, ft.width
            );
            self.fault(&["model.feed_forward", "model.width"], message, "make one of them larger");
        }
        self.share("model.attention_dropout", ft.attention_dropout);
        self.share("model.dropout", ft.dropout);
        self.share("model.residual_dropout", ft.residual_dropout);
    }
}
