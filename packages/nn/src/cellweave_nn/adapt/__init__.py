"""Adapt a trained model: fine-tune, LoRA, quantise, prune, distil."""
