-- Scores fall with the days of delay, and the words speak of it. One review
-- in a hundred and twenty repeats the id of the order before.
WITH judged AS (
  SELECT n, order_id, estimated, delivered, status,
    coalesce(greatest(0, date_diff('day', estimated, delivered)), CASE WHEN status = 'delivered' THEN 0 ELSE 8 END) AS late,
    draw('score', n) AS s
  FROM staged
  WHERE n >= getvariable('first_unit') AND draw('review', n) < 0.992
),
scored AS (
  SELECT *,
    CASE
      WHEN late = 0 THEN CASE WHEN s < 0.066 THEN 1 WHEN s < 0.093 THEN 2 WHEN s < 0.175 THEN 3 WHEN s < 0.375 THEN 4 ELSE 5 END
      WHEN late <= 3 THEN CASE WHEN s < 0.28 THEN 1 WHEN s < 0.37 THEN 2 WHEN s < 0.53 THEN 3 WHEN s < 0.72 THEN 4 ELSE 5 END
      ELSE CASE WHEN s < 0.68 THEN 1 WHEN s < 0.77 THEN 2 WHEN s < 0.86 THEN 3 WHEN s < 0.92 THEN 4 ELSE 5 END
    END AS score,
    date_trunc('day', coalesce(delivered, estimated)) + to_days(CAST(1 + floor(2 * draw('asked', n)) AS INTEGER)) AS created
  FROM judged
)
SELECT row_id('review', CASE WHEN draw('same id', n) < 0.008 AND n > 0 THEN n - 1 ELSE n END) AS review_id,
  order_id, score AS review_score,
  CASE WHEN draw('title', n) < 0.12 THEN pick(
    CASE WHEN score <= 2 AND late > 0 THEN ['Atraso', 'Não chegou no prazo', 'Entrega atrasada', 'Ainda não recebi']
      WHEN score <= 2 THEN ['Não recomendo', 'Produto errado', 'Péssimo', 'Decepcionado']
      WHEN score = 3 THEN ['Razoável', 'Bom', 'Mais ou menos']
      ELSE ['Recomendo', 'Super recomendo', 'Ótimo', 'Excelente', 'Muito bom', 'Perfeito'] END, draw('which title', n)) END AS review_comment_title,
  CASE WHEN draw('message', n) < CASE WHEN score <= 2 THEN 0.75 WHEN score = 3 THEN 0.43 ELSE 0.34 END THEN
    pick(
      CASE WHEN score <= 2 AND late > 0 THEN ['O prazo passou e o produto não chegou.', 'Entrega atrasada, comprei para presente.', 'Estou esperando há semanas,' || chr(10) || 'ninguém responde.', 'O atraso da transportadora foi enorme.', 'Disseram "já foi entregue", mas não recebi nada.']
        WHEN score <= 2 THEN ['Produto veio com defeito.', 'Recebi cor errada, quero trocar.', 'Qualidade muito ruim.', 'Veio faltando uma peça,' || chr(10) || 'pedi ajuda e nada.', 'Não é igual à foto.', 'Chegou quebrado na caixa.']
        WHEN score = 3 AND late > 0 THEN ['Produto bom, mas demorou demais.', 'Chegou depois do prazo, porém certo.', 'A entrega atrasou alguns dias.']
        WHEN score = 3 THEN ['Produto simples, atende.', 'Esperava mais pelo preço.', 'Embalagem fraca, produto bom.']
        ELSE ['Chegou antes do prazo.', 'Produto de ótima qualidade.', 'Recomendo a loja, entrega rápida.', 'Tudo certo, adorei!', 'Muito bonito, igual ao anúncio.', 'Excelente custo-benefício.', 'Produto conforme "descrito", bem embalado.'] END,
      draw('first phrase', n))
    || ' ' || pick(
      CASE WHEN score <= 2 THEN ['Não compro mais aqui.', 'Quero meu dinheiro de volta.', 'Péssimo atendimento.', 'Vou reclamar.', '']
        WHEN score = 3 THEN ['Vamos ver com o uso.', 'Poderia melhorar.', '']
        ELSE ['Voltarei a comprar.', 'Parabéns!', 'Nota dez.', 'Obrigado.', ''] END,
      draw('second phrase', n))
  END AS review_comment_message,
  created AS review_creation_date,
  created + to_seconds(CAST(86400 * (0.4 + 2.2 * waiting('answered', n)) AS BIGINT)) AS review_answer_timestamp,
  n AS source_line
FROM scored
