"""A page on which a model writes: type, watch the denoising live, compare two samplers, play Life. Extra `web`.

`asking` checks what a browser sends, `showing` turns a sampler's frames into HTML, `recordings` keeps runs for
downloads, `queue` who runs and who waits, `listening` what a browser hears of it, `door` what is let through, `page` is
the page itself, `connection` a connection with an end to its patience, `server` serves it. Only the last three know a
library of the web.
"""
