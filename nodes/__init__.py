"""Nodes: the mathematics. `type: vae.DecodeVideo` is class `DecodeVideo` of `nodes/vae.py`."""

# Types that were renamed: a graph with an old name works, with a note, for one release.
RENAMED = {
    "transformer.WanDenoiser": "wan.WanDenoiser",
    "transformer.FluxDenoiser": "flux.FluxDenoiser",
    "first_frame.EncodeFirst": "ltx2_first_frame.EncodeFirst",
    "first_frame.BeginWith": "ltx2_first_frame.PlaceFirstFrame",
    "first_frame.HoldFirst": "ltx2_first_frame.HoldFirst",
    "joint.Unconditional": "ltx2_guidance.Unconditional",
    "joint.JointGuidance": "ltx2_guidance.JointGuidance",
    "kontext.Show": "flux_kontext.ResizeToTrainedSize",
    "kontext.KeepArea": "flux_kontext.KeepArea",
    "stream.DecodeCausal": "vae_stream.DecodeCausal",
    "glm_prior.Show": "glm_prior.PreparePictures",
}
