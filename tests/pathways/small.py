"""A small pathway for tests that derive numbers by hand."""

SMALL = """
pathway: {id: small, title: Small, version: "1", source: [a test], balance: grade}
variables:
  lesion: {type: boolean, concept: [lesion], article: a}
  size: {type: number, unit: mm, range: [1, 20], tolerance: 1, concept: [size], when: lesion}
  grade:
    type: ordinal
    concept: [grade]
    frame: category
    values:
      low: {say: [low grade], synonyms: [low grade], words: [low]}
      middle: {say: [middle grade], synonyms: [middle grade], words: [middle]}
      high: {say: [high grade], synonyms: [high grade], words: [high]}
rules:
  big_is_lesion: {if: "grade == high", then: lesion, text: "only a lesion is high grade"}
decisions:
  grade:
    rows:
      - {if: "not lesion", then: low}
      - {if: "size < 10", then: middle}
      - {if: "size >= 10", then: high}
tests:
  - {given: {lesion: false}, expect: {grade: low}}
  - {given: {lesion: true, size: 5}, expect: {grade: middle}}
  - {given: {lesion: true, size: 12}, expect: {grade: high}}
  - {given: {lesion: false, grade: high}, consistent: false}
"""
