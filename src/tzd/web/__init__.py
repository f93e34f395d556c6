"""A page on which a model writes: type, watch the denoising live, compare two samplers, play Life. Extra `web`.

`asking` checks what a browser sends, `showing` turns a sampler's frames into HTML, `recordings` keeps runs for
downloads, `page` is the page itself, `door` what reaches it, `server` serves it. Only the last three know a library of
the web.
"""
