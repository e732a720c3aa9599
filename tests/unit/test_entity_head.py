"""The entity head: learnt on states that stay as they are, in transformers' own terms."""

import torch
from torch.nn import functional
from transformers import LukeConfig
from transformers.models.luke.modeling_luke import EntityPredictionHead

from recipes.entity_head import EntityHeadConfig, train

WIDTH, ENTITIES = 32, 40


def mentions() -> tuple[torch.Tensor, torch.Tensor]:
    """Three states near one direction for each entity."""
    generator = torch.Generator().manual_seed(3)
    centres = functional.normalize(torch.randn(ENTITIES, WIDTH, generator=generator), dim=-1) * 6
    entities = torch.arange(ENTITIES).repeat(3)
    return centres[entities] + torch.randn(len(entities), WIDTH, generator=generator) * 0.3, entities


def test_it_finds_the_entity_of_an_unseen_mention() -> None:
    """Also of a mention beside those that it learnt from."""
    states, entities = mentions()
    head, rows = train(states, entities, ENTITIES, EntityHeadConfig(steps=100, batch=32))
    unseen = states + 0.3 * torch.randn(states.shape, generator=torch.Generator().manual_seed(4))
    assert (head(unseen, rows).argmax(-1) == entities).float().mean() > 0.95


def test_the_same_seed_gives_the_same_head() -> None:
    """And another seed another one."""
    states, entities = mentions()
    first, second, other = (
        train(states, entities, ENTITIES, EntityHeadConfig(steps=5, seed=seed))[1] for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_it_equals_transformers_head() -> None:
    """Whose decoder holds the rows; the row of [MASK] added to all of them changes no choice."""
    states, entities = mentions()
    head, rows = train(states, entities, ENTITIES, EntityHeadConfig(steps=5))
    config = LukeConfig(hidden_size=WIDTH, entity_emb_size=WIDTH, entity_vocab_size=ENTITIES, layer_norm_eps=1e-12)
    reference = EntityPredictionHead(config)
    missing, unexpected = reference.load_state_dict(head.state_dict(), strict=False)
    assert (missing, unexpected) == (["decoder.weight"], [])
    with torch.inference_mode():
        reference.decoder.weight.copy_(rows)
        assert torch.allclose(reference(states), head(states, rows), atol=1e-5)
        mask = torch.randn(WIDTH, generator=torch.Generator().manual_seed(5))
        moved = head(states, rows + mask) - head(states, rows)
        assert torch.allclose(moved, moved[:, :1].expand_as(moved), atol=1e-4)
