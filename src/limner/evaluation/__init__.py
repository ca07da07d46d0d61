"""Is the painting any good? Numbers with their intervals, each beside what real pictures and ignorance score.

- `recognition`: does a judge that has never seen the painter's pictures recognise what was asked for?
- `retrieval` and `prior_cosine`: do CLIP and the prior know what training held out?
- `classification`: how often is CLIP right about labelled pictures, and what does it take for what?
- `reranking`: is a picture of DALL-E 1 better for having been chosen by CLIP among many?
- `likelihood`: how many bits does DALL-E 1 need for captions and pictures that it has never seen?
- `frechet`: how far is the cloud of painted pictures from that of real ones?
- `reconstruction` and `reconstructions`: what does an autoencoder give back of a picture, at what price?
- `report` and `sheet`: all of it in one table, and 64 paintings that nobody picked.

Below them: `features` (eyes trained on photographs), `intervals`, `names` (what is asked for) and `augment`.
"""
