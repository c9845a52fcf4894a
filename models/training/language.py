"""Stage two: language model, vision tower, vision projector and dream queries, from scratch, on documents of the world.

The published model starts from a trained Vicuna, CLIP and Stable Diffusion. The tiny one has none of them, so two
linear probes stand in for what such pre-training gives, and are thrown away afterwards: patch features must tell the
shape that they lie on (in place of CLIP), and dream states must tell the scene that was asked for (in place of the
alignment with a trained diffusion model).
"""

import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, LlamaConfig

from models.dreamllm import DreamLLMConfig, DreamLLMForConditionalGeneration, DreamLLMProcessor
from models.training.documents import Document, sample_document
from models.training.loop import Schedule, Stage
from models.training.sequence import IGNORED, Batch, Encoder, collate
from models.training.tokenizer import train_tokenizer
from models.training.world import BACKGROUNDS, COLORS, KINDS, PLACES, RESOLUTION, SIZES, Scene, draw

NUM_DREAM_QUERIES = 16
PATCH = 16  # pixels
SCHEDULE = Schedule(steps=1500, learning_rate=1.5e-3, warmup=200, ema=0.995)
BATCH = 32
PROBE_WEIGHT = 0.5


def build_processor(seed: int) -> DreamLLMProcessor:
    """The tokenizer, learned on the world's sentences, and an image processor for its pictures."""
    size = {"height": RESOLUTION, "width": RESOLUTION}
    images = CLIPImageProcessorPil(size={"shortest_edge": RESOLUTION}, crop_size=size)
    tokenizer = train_tokenizer(seed, NUM_DREAM_QUERIES)
    return DreamLLMProcessor(
        images,
        tokenizer,
        num_image_tokens=(RESOLUTION // PATCH) ** 2,
        num_dream_queries=NUM_DREAM_QUERIES,
        chat_template=tokenizer.chat_template,
    )


def build_config(processor: DreamLLMProcessor) -> DreamLLMConfig:
    """The tiny model: a Llama of four layers, a CLIP tower of four."""
    tokenizer = processor.tokenizer
    token = tokenizer.convert_tokens_to_ids
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        rms_norm_eps=1e-5,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=RESOLUTION,
        patch_size=PATCH,
        projection_dim=128,
    )
    return DreamLLMConfig(
        text_config=text,
        vision_config=vision,
        dream_token_id=token("<dream_start>"),
        dream_end_token_id=token("<dream_end>"),
        dream_query_token_id=token("<dream_query_0>"),
        num_dream_queries=NUM_DREAM_QUERIES,
        image_start_token_id=token("<im_start>"),
        image_end_token_id=token("<im_end>"),
        image_token_id=token("<im_patch>"),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


class SceneProbe(nn.Module):
    """Reads each property of a scene off the dream state of one query."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(hidden_size, classes) for classes in self.classes())

    @staticmethod
    def classes() -> list[int]:
        """Number of values of each property: shapes, background, then kind, colour, size and place of two shapes."""
        shape = [len(KINDS), len(COLORS), len(SIZES), len(PLACES)]
        return [2, len(BACKGROUNDS), *shape, *shape]

    @staticmethod
    def targets(scene: Scene) -> list[int]:
        """Value of each property, as an index; -100 for those of a shape that is not there."""
        values = [len(scene.shapes) - 1, list(BACKGROUNDS).index(scene.background)]
        for s in scene.shapes:
            values += [
                KINDS.index(s.kind),
                list(COLORS).index(s.color),
                list(SIZES).index(s.size),
                list(PLACES).index(s.place),
            ]
        return values + [IGNORED] * (10 - len(values))

    def forward(self, states: torch.Tensor, scenes: list[Scene]) -> torch.Tensor:
        """Mean cross-entropy over the properties. ``states``: ``[scenes, queries, hidden]``."""
        targets = torch.tensor([self.targets(scene) for scene in scenes], device=states.device)
        losses = [
            F.cross_entropy(head(states[:, i]).float(), targets[:, i], ignore_index=IGNORED, reduction="sum")
            for i, head in enumerate(self.heads)
        ]
        return torch.stack(losses).sum() / (targets != IGNORED).sum().clamp(min=1)


class PatchProbe(nn.Module):
    """Reads off each patch which kind and colour of shape lies on it, and which background around it."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(features, n) for n in (len(KINDS) + 1, len(COLORS) + 1, len(BACKGROUNDS)))

    @staticmethod
    def targets(scene: Scene) -> np.ndarray:
        """``[3, patches]``: kind and colour, 0 where there is no shape, and background."""
        side = RESOLUTION // PATCH
        targets = np.zeros((3, side, side), dtype=np.int64)
        targets[2] = list(BACKGROUNDS).index(scene.background)
        empty = np.array(BACKGROUNDS[scene.background])
        for shape in scene.shapes:
            covered = (draw(Scene(scene.background, (shape,))) != empty).any(-1)
            share = covered.reshape(side, PATCH, side, PATCH).mean((1, 3))
            targets[0][share > 0.05] = KINDS.index(shape.kind) + 1
            targets[1][share > 0.05] = list(COLORS).index(shape.color) + 1
        return targets.reshape(3, -1)

    def forward(self, features: torch.Tensor, scenes: list[Scene]) -> torch.Tensor:
        """Mean cross-entropy. ``features``: ``[scenes, patches, features]``."""
        targets = torch.from_numpy(np.stack([self.targets(scene) for scene in scenes])).to(features.device)
        losses = [
            F.cross_entropy(head(features).float().flatten(0, 1), targets[:, i].flatten())
            for i, head in enumerate(self.heads)
        ]
        return torch.stack(losses).mean()


class LanguageTraining(nn.Module):
    """The model and its two probes."""

    def __init__(self, model: DreamLLMForConditionalGeneration) -> None:
        super().__init__()
        self.model = model
        self.scene_probe = SceneProbe(model.config.text_config.hidden_size)
        self.patch_probe = PatchProbe(model.config.text_config.hidden_size)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Cross-entropy of the labels plus that of the probes."""
        core, config = self.model.model, self.model.config
        # Apart from the model's own forward pass, because a probe reads the features too.
        features = None if batch.pixel_values is None else core.get_image_features(batch.pixel_values)
        output = self.model(inputs_embeds=core.embed(batch.input_ids, features), attention_mask=batch.attention_mask)
        loss = F.cross_entropy(output.logits[:, :-1].float().flatten(0, 1), batch.labels[:, 1:].flatten())
        if features is not None:
            loss = loss + PROBE_WEIGHT * self.patch_probe(features, batch.scenes)
        known = [i for i, dream in enumerate(batch.dreams) if not dream.open]
        if known:
            states = batch.dream_states(output.last_hidden_state, config.num_dream_queries)
            loss = loss + PROBE_WEIGHT * self.scene_probe(states[known], [batch.dreams[i].scene for i in known])
        return loss


def sample_documents(rng: random.Random, count: int) -> list[Document]:
    """Documents of the mixture and of about one length, so that little of a batch is padding.

    Of four times as many, in order of length, it takes a quarter at random: every document has the same chance.
    """
    documents = sorted((sample_document(rng) for _ in range(4 * count)), key=rough_length)
    quarter = rng.randrange(4)
    return documents[quarter * count : (quarter + 1) * count]


def rough_length(document: Document) -> int:
    """About how long a document is: letters, a picture counting as many."""
    pieces = (*(document.prompt or ()), *document.answer)
    return sum(len(piece) if isinstance(piece, str) else 200 for piece in pieces)


def train_language(
    folder: Path, seed: int, device: torch.device, schedule: Schedule = SCHEDULE
) -> tuple[DreamLLMForConditionalGeneration, DreamLLMProcessor]:
    """Train the language side. Returns the model, in float32 and without the probes, and its processor."""
    torch.manual_seed(seed)
    processor = build_processor(seed)
    model = DreamLLMForConditionalGeneration(build_config(processor))
    model.generation_config.update(
        bos_token_id=processor.tokenizer.bos_token_id,
        eos_token_id=processor.tokenizer.eos_token_id,
        pad_token_id=processor.tokenizer.pad_token_id,
    )
    training = LanguageTraining(model).to(device)
    encoder = Encoder(model.config, processor)

    def loss(step: int, rng: random.Random) -> torch.Tensor:
        examples = [encoder.encode(document, rng) for document in sample_documents(rng, BATCH)]
        batch = collate(examples, processor, device)
        with torch.autocast(device.type, torch.bfloat16):
            value: torch.Tensor = training(batch)
        return value

    Stage("language", training, schedule, folder, seed).run(loss)
    return model, processor
