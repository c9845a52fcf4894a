"""The official tokenizer, transformers' slow ``LlamaTokenizer`` in its legacy mode, as a fast one.

Legacy mode: the text between two special tokens is encoded on its own, with sentencepiece's space in front of it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from sentencepiece import SentencePieceProcessor
from sentencepiece import sentencepiece_model_pb2 as sentencepiece_model
from tokenizers import AddedToken, Tokenizer, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from models.dreamllm.chat_template import SYSTEM_PROMPT, chat_template
from models.dreamllm.conversion.decoding import official_decoder
from models.dreamllm.conversion.errors import ConversionError
from models.dreamllm.conversion.tokens import SpecialTokens

SPACE = "▁"
_MODEL: Any = sentencepiece_model.ModelProto
_PIECE = _MODEL.SentencePiece


def convert_tokenizer(
    model_file: Path,
    tokenizer_config: Mapping[str, Any],
    special: SpecialTokens,
    dream_queries: Mapping[str, int],
) -> PreTrainedTokenizerFast:
    """The tokenizer of a checkpoint, with the dream queries in its vocabulary.

    Raises:
        ConversionError: it is of a kind that the official code does not make, or two of its tokens share an id.
    """
    if not tokenizer_config.get("legacy", True):
        raise ConversionError("the tokenizer is not in legacy mode, in which every published DreamLLM was trained")
    model = _MODEL()
    try:
        model.ParseFromString(model_file.read_bytes())
    except DecodeError as error:
        raise ConversionError(f"{model_file} is not a sentencepiece model") from error
    _check_kind(model)
    added = {**special.ids, **dream_queries}
    pieces = {piece.piece: index for index, piece in enumerate(model.pieces)}
    _check_ids(pieces, added)

    tokenizer = Tokenizer(
        models.BPE(
            pieces | added,
            _merges(model),
            unk_token=special.unk,
            fuse_unk=True,
            byte_fallback=model.trainer_spec.byte_fallback,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    in_order = sorted(added, key=added.__getitem__)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in in_order])
    tokenizer.post_processor = _frame(tokenizer_config, special)
    base = (special.unk, special.bos, special.eos, special.pad)
    additional = [token for token in in_order if token not in base]
    tokenizer.decoder = official_decoder(SPACE, base, additional)
    _check_agreement(tokenizer, model)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=special.bos,
        eos_token=special.eos,
        unk_token=special.unk,
        pad_token=special.pad,
        additional_special_tokens=additional,
        chat_template=chat_template(SYSTEM_PROMPT),
        clean_up_tokenization_spaces=False,
        padding_side=tokenizer_config.get("padding_side", "right"),
    )


def _check_kind(model: Any) -> None:
    """Refuse what the parts of the fast tokenizer would not reproduce."""
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    user_defined = [piece.piece for piece in model.pieces if piece.type == _PIECE.USER_DEFINED]
    problems = {
        "it is not BPE": trainer.model_type != trainer.BPE,
        "it normalises text": bool(normalizer.precompiled_charsmap),
        "it puts no space in front of a text": not normalizer.add_dummy_prefix,
        "it removes spaces": normalizer.remove_extra_whitespaces,
        "it does not escape spaces": not normalizer.escape_whitespaces,
        "it puts spaces behind words": trainer.treat_whitespace_as_suffix,
        f"it has user-defined pieces: {' '.join(user_defined)}": bool(user_defined),
    }
    if any(problems.values()):
        found = "; ".join(problem for problem, is_there in problems.items() if is_there)
        raise ConversionError(f"tokenizer.model is not of the kind that Llama has: {found}")


def _check_ids(pieces: Mapping[str, int], added: Mapping[str, int]) -> None:
    owners = {index: piece for piece, index in pieces.items()}
    conflicts = []
    for token, token_id in added.items():
        owner = owners.setdefault(token_id, token)
        if owner != token:
            conflicts.append(f"{token} and {owner} both have the id {token_id}")
        elif pieces.get(token, token_id) != token_id:
            conflicts.append(f"{token} has the ids {token_id} and {pieces[token]}")
    if conflicts:
        raise ConversionError("tokens of the checkpoint clash: " + "; ".join(conflicts))


def _merges(model: Any) -> list[tuple[str, str]]:
    """Pairs of pieces that make a third, in sentencepiece's order: the best score of what they make comes first."""
    normal = {piece.piece: index for index, piece in enumerate(model.pieces) if piece.type == _PIECE.NORMAL}
    by_score = sorted(normal, key=lambda piece: (-model.pieces[normal[piece]].score, normal[piece]))
    return [
        (piece[:cut], piece[cut:])
        for piece in by_score
        for cut in range(1, len(piece))
        if piece[:cut] in normal and piece[cut:] in normal
    ]


def _frame(tokenizer_config: Mapping[str, Any], special: SpecialTokens) -> processors.PostProcessor:
    """What encoding puts around a text."""
    before = [special.bos] if tokenizer_config.get("add_bos_token", True) else []
    after = [special.eos] if tokenizer_config.get("add_eos_token", False) else []
    ids = [(token, special.ids[token]) for token in (*before, *after)]
    return processors.TemplateProcessing(single=" ".join([*before, "$A", *after]), special_tokens=ids)


def _check_agreement(tokenizer: Tokenizer, model: Any) -> None:
    """Compare with sentencepiece on every piece of the vocabulary as a text."""
    reference = SentencePieceProcessor(model_proto=model.SerializeToString())
    texts: Sequence[str] = [piece.piece.replace(SPACE, " ") for piece in model.pieces if piece.type == _PIECE.NORMAL]
    different = [
        text
        for text, encoding in zip(texts, tokenizer.encode_batch_fast(texts, add_special_tokens=False), strict=True)
        if encoding.ids != reference.encode(text)
    ]
    if different:
        raise ConversionError(f"{len(different)} texts are encoded otherwise than by sentencepiece: {different[:5]}")
